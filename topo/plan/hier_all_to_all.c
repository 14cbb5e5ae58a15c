/* All-to-all of the family hier: blocks for the same rank of another host leave a host in one message.
 *
 *     host A: 0 1 2       host B: 3 4        0 collects the blocks of 0, 1, 2 for 3, and 1 or 2 those for 4 (inside);
 *                                            then each sends its three to 3 or 4 in one message (outside)
 *
 * The rail of a block in the sender's group is where it is collected (hier.h). Hosts exchange as many bytes as without
 * this, in fewer messages by the number of ranks per host; it pays where messages cost. The level is chosen by
 * predicted time; within its groups and between them messages are direct.
 *
 *     channel 0   >peer copy <- in            what the peer collects, and its own block; the rank's own to scratch
 *                 out, tmp <- <peer
 *     channel 1   >rank <- tmp                all of this group's blocks for a rank of another one
 *                 out <- <rail                all blocks of another group
 *
 * Ends: in both channels sends come before arrivals; nothing of the input is needed when channel 1 begins. */
#include "base/base.h"
#include "topo/plan/cost.h"
#include "topo/plan/hier.h"

typedef struct {
  const mci_topo* topo;
  mci_build* b;
  uint32_t level, rank, group, index, size;
  uint32_t* base; /* number of the first block of each group */
} plan;

/* Other groups come in the order of their distance ahead, so that not everybody begins with the same one. */
static uint32_t ahead(const plan* p, uint32_t d) { return (p->group + d) % mci_topo_ngroups(p->topo, p->level); }

/* Index in a group of `size` of the rank that collects for rank x of a group of `other`. */
static uint32_t rail_index(uint32_t x, uint32_t other, uint32_t size) { return (uint32_t)((uint64_t)x * size / other); }

/* ---- cost ---- */
static uint64_t predict(const mci_hier* h, uint32_t level, uint64_t block) {
  const mci_topo* topo = h->topo;
  uint64_t ranks = mci_topo_nranks(topo), worst = 0, collected = 0;
  mci_link inner = mci_topo_class(topo, level), outer = mci_topo_class(topo, level + 1);
  for (uint32_t c = level + 2; c < mci_topo_nclasses(topo); c++)
    outer.lat_ps = MCI_MAX(outer.lat_ps, mci_topo_class(topo, c).lat_ps);
  for (uint32_t l = level; l < mci_topo_nlevels(topo); l++) {
    mci_link link = mci_topo_class(topo, l + 1);
    for (uint32_t g = 0; g < mci_topo_ngroups(topo, l); g++) {
      uint64_t size = mci_topo_group_size(topo, l, g), leaving = size * (ranks - size);
      uint64_t time = mci_cost_wire(&link, leaving * block) + (ranks - size) * link.cost_ps;
      worst = MCI_MAX(worst, time);
      if (l == level) collected = MCI_MAX(collected, (ranks - size + size - 1) / size + 1);
    }
  }
  return inner.lat_ps + collected * (mci_cost_wire(&inner, block) + inner.cost_ps) + outer.lat_ps + worst;
}

static uint32_t choose(const mci_hier* h, const mci_request* request, uint64_t* time_out) {
  uint64_t block = mci_cost_share(request->bytes, 1, mci_topo_nranks(h->topo));
  uint32_t best = h->level[0];
  *time_out = UINT64_MAX;
  for (uint32_t s = 0; s + 1 < h->nstages; s++) {
    uint64_t time = predict(h, h->level[s], block);
    if (time >= *time_out) continue;
    *time_out = time;
    best = h->level[s];
  }
  return best;
}

void mci_hier_all_to_all_cost(const mci_hier* h, const mci_request* request, mci_plan_cost* out) {
  *out = (mci_plan_cost){.steps = 2, .channels = 2, .chunks = 1};
  uint32_t level = choose(h, request, &out->cost_ps);
  double ranks = mci_topo_nranks(h->topo);
  for (uint32_t g = 0; g < mci_topo_ngroups(h->topo, level); g++) {
    double size = mci_topo_group_size(h->topo, level, g), load = size * (ranks - size) / ranks;
    out->load = MCI_MAX(out->load, load);
  }
}

/* ---- building ---- */
static mci_shape blocks(uint32_t first, uint32_t run) { return mci_span(mci_const((int32_t)first), run, mci_const(0)); }

static mci_shape kept(uint32_t skip, uint32_t run) {
  mci_shape shape = mci_span(mci_const(0), run, mci_const(0));
  shape.skip = mci_const((int32_t)skip);
  return shape;
}

static mci_affine rank_of(const plan* p, uint32_t group, uint32_t i) {
  return mci_const((int32_t)mci_topo_group_rank(p->topo, p->level, group, i));
}

/* Ranks first .. end-1 of another group are those whose blocks member i of this group collects. */
static uint32_t collected_from(const plan* p, uint32_t group, uint32_t i) {
  return mci_hier_begin(i, p->size, mci_topo_group_size(p->topo, p->level, group));
}

static void send_inside(const plan* p, uint32_t i) {
  for (uint32_t d = 0; d < mci_topo_ngroups(p->topo, p->level); d++) {
    uint32_t g = ahead(p, d);
    uint32_t first = g == p->group ? i : collected_from(p, g, i);
    uint32_t end = g == p->group ? i + 1 : collected_from(p, g, i + 1);
    for (uint32_t x = first; x < end; x++) {
      mci_build_step(p->b, 0);
      mci_build_dst_lane(p->b, MCI_COPY, rank_of(p, p->group, i));
      mci_build_src(p->b, MCI_IN, blocks(p->base[g] + x, 1));
    }
  }
}

/* What member i of this group has for this rank: a block, and those that are collected here. */
static void take_inside(const plan* p, uint32_t i) {
  uint32_t slot = 0;
  for (uint32_t d = 0; d < mci_topo_ngroups(p->topo, p->level); d++) {
    uint32_t g = ahead(p, d);
    bool own = g == p->group;
    uint32_t first = own ? p->index : collected_from(p, g, p->index);
    uint32_t end = own ? p->index + 1 : collected_from(p, g, p->index + 1);
    for (uint32_t x = first; x < end; x++) {
      mci_build_step(p->b, 0);
      if (own) {
        mci_build_dst(p->b, MCI_OUT, 0, blocks(p->base[g] + i, 1));
      } else {
        mci_build_dst_tmp(p->b, 0, mci_const((int32_t)slot++), kept(i, 1));
      }
      if (i == p->index) {
        mci_build_src(p->b, MCI_IN, blocks(p->base[g] + x, 1));
      } else {
        mci_build_src_lane(p->b, rank_of(p, p->group, i));
      }
    }
  }
}

static void wait_inside(const plan* p, bool* waited, uint64_t steps) {
  if (!*waited) mci_build_after(p->b, 0, mci_const((int32_t)steps));
  *waited = true;
}

static void send_outside(const plan* p, uint64_t inside, bool* waited) {
  uint32_t slot = 0;
  for (uint32_t d = 1; d < mci_topo_ngroups(p->topo, p->level); d++) {
    uint32_t g = ahead(p, d);
    for (uint32_t x = collected_from(p, g, p->index); x < collected_from(p, g, p->index + 1); x++) {
      mci_build_step(p->b, 0);
      wait_inside(p, waited, inside);
      mci_build_dst_lane(p->b, 0, rank_of(p, g, x));
      mci_build_src_tmp(p->b, mci_const((int32_t)slot++), kept(0, p->size));
    }
  }
}

/* From the group behind on, because each group sends to the one ahead first. */
static void take_outside(const plan* p, uint64_t inside, bool* waited) {
  uint32_t ngroups = mci_topo_ngroups(p->topo, p->level);
  for (uint32_t d = 1; d < ngroups; d++) {
    uint32_t g = (p->group + ngroups - d) % ngroups, size = mci_topo_group_size(p->topo, p->level, g);
    mci_build_step(p->b, 0);
    wait_inside(p, waited, inside);
    mci_build_dst(p->b, MCI_OUT, 0, blocks(p->base[g], size));
    mci_build_src_lane(p->b, rank_of(p, g, rail_index(p->index, p->size, size)));
  }
}

static uint32_t count_collected(const plan* p) {
  uint32_t n = 0;
  for (uint32_t g = 0; g < mci_topo_ngroups(p->topo, p->level); g++)
    if (g != p->group) n += collected_from(p, g, p->index + 1) - collected_from(p, g, p->index);
  return n;
}

static void build_channels(const plan* p) {
  bool waited = false;
  mci_build_slots(p->b, count_collected(p));
  mci_build_channel(p->b, 0);
  for (uint32_t d = 1; d < p->size; d++) send_inside(p, (p->index + d) % p->size);
  for (uint32_t d = 0; d < p->size; d++) take_inside(p, (p->index + p->size - d) % p->size);
  uint64_t inside = mci_build_count(p->b);
  mci_build_channel(p->b, 1);
  send_outside(p, inside, &waited);
  take_outside(p, inside, &waited);
}

/* Blocks are numbered group by group. */
static meshcclResult_t number_blocks(plan* p) {
  uint32_t n = mci_topo_nranks(p->topo), ngroups = mci_topo_ngroups(p->topo, p->level), next = 0;
  uint32_t* order = mci_alloc(n * sizeof *order);
  p->base = mci_alloc(ngroups * sizeof *p->base);
  if (!order || !p->base) {
    mci_free(order);
    return mci_oom(n * sizeof *order);
  }
  bool identity = true;
  for (uint32_t g = 0; g < ngroups; g++) {
    p->base[g] = next;
    for (uint32_t i = 0; i < mci_topo_group_size(p->topo, p->level, g); i++, next++) {
      order[next] = mci_topo_group_rank(p->topo, p->level, g, i);
      identity = identity && order[next] == next;
    }
  }
  if (!identity) mci_build_order(p->b, order);
  mci_free(order);
  return meshcclSuccess;
}

meshcclResult_t mci_hier_all_to_all_build(const mci_hier* h, const mci_request* request, uint32_t rank,
                                          mci_program** out) {
  uint64_t ignored;
  plan p = {.topo = h->topo, .level = choose(h, request, &ignored), .rank = rank};
  p.group = mci_topo_group(p.topo, p.level, rank);
  p.size = mci_topo_group_size(p.topo, p.level, p.group);
  while (mci_topo_group_rank(p.topo, p.level, p.group, p.index) != rank) p.index++;
  p.b = mci_build_begin(request->coll, "hier", mci_topo_nranks(p.topo), rank, 0);
  mci_build_layout(p.b, mci_topo_nranks(p.topo), 1, NULL);
  meshcclResult_t result = number_blocks(&p);
  if (result == meshcclSuccess) build_channels(&p);
  mci_free(p.base);
  if (result != meshcclSuccess) {
    mci_build_drop(p.b);
    return result;
  }
  return mci_build_finish(p.b, out);
}
