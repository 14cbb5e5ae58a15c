/* A topology as a machine file, in one canonical form: repetition where every level holds whole groups of the one
 * inside and the last is all there is, else sides and boxes. Classes of links are numbered as they come up. */
#include <string.h>

#include "topo/grid.h"
#include "topo/machine.h"

typedef struct {
  mci_link list[1 + MCI_MAX_LEVELS + MCI_MAX_PLANES];
  uint32_t n;
} classes;

static uint32_t class_of(classes* c, mci_link link) {
  for (uint32_t i = 0; i < c->n; i++)
    if (memcmp(&c->list[i], &link, sizeof link) == 0) return i;
  c->list[c->n++] = link;
  return c->n - 1;
}

static void print_classes(const classes* c, mci_str* out) {
  mci_str_add(out, "classes:\n");
  for (uint32_t i = 0; i < c->n; i++) {
    mci_str_add(out, "  links-%u: {rate: ", i);
    mci_unit_print(MCI_UNIT_RATE, c->list[i].bw_Bps, out);
    mci_str_add(out, ", delay: ");
    mci_unit_print(MCI_UNIT_TIME, c->list[i].lat_ps, out);
    if (c->list[i].cost_ps) {
      mci_str_add(out, ", cost: ");
      mci_unit_print(MCI_UNIT_TIME, c->list[i].cost_ps, out);
    }
    mci_str_add(out, "}\n");
  }
}

/* ---- levels ---- */

/* Length of the groups of a level of a full graph that are all alike; 0 otherwise. */
static uint32_t even_runs(const mci_level* level) { return level->nruns == 1 ? level->runs[0].length : 0; }

static bool repeats(const mci_topo* topo) {
  if (topo->nlevels == 0) return false;
  mci_link last = topo->nlevels > 1 ? topo->level[topo->nlevels - 2].link : topo->link;
  if (memcmp(&last, &topo->level[topo->nlevels - 1].link, sizeof last) != 0) return false;
  if (mci_level_groups(topo, &topo->level[topo->nlevels - 1]) != 1) return false;
  for (uint32_t l = 0; l < topo->nlevels; l++) {
    const mci_level* level = &topo->level[l];
    if (topo->full && even_runs(level) == 0) return false;
    for (uint32_t d = 0; d < topo->ndims; d++)
      if (level->before[d] || topo->side[d] % level->box[d]) return false;
  }
  return true;
}

static void print_numbers(const uint32_t* numbers, uint32_t n, mci_str* out) {
  for (uint32_t d = 0; d < n; d++) mci_str_add(out, "%s%u", d ? "x" : "", numbers[d]);
}

static void print_repeat(const mci_topo* topo, uint32_t l, mci_str* out) {
  const mci_level *level = &topo->level[l], *inner = l ? level - 1 : NULL;
  uint32_t count[MCI_MAX_DIMS];
  mci_str_add(out, ", of: ");
  if (topo->full) {
    count[0] = even_runs(level) / (inner ? even_runs(inner) : 1);
  } else {
    for (uint32_t d = 0; d < topo->ndims; d++) count[d] = level->box[d] / (inner ? inner->box[d] : 1);
  }
  print_numbers(count, MCI_MAX(topo->ndims, 1u), out);
}

static void print_groups(const mci_topo* topo, const mci_level* level, mci_str* out) {
  bool before = false;
  for (uint32_t d = 0; d < topo->ndims; d++) before = before || level->before[d] > 0;
  if (topo->full) {
    mci_str_add(out, ", groups: ");
    for (uint32_t i = 0; i < level->nruns; i++) {
      mci_str_add(out, "%s%u", i ? "+" : "", level->runs[i].length);
      if (level->runs[i].count > 1) mci_str_add(out, "*%u", level->runs[i].count);
    }
    return;
  }
  mci_str_add(out, ", nodes: ");
  print_numbers(level->box, topo->ndims, out);
  if (!before) return;
  mci_str_add(out, ", before: ");
  print_numbers(level->before, topo->ndims, out);
}

static void print_levels(const mci_topo* topo, bool of, classes* c, mci_str* out) {
  if (topo->nlevels) mci_str_add(out, "levels:\n");
  for (uint32_t l = 0; l < topo->nlevels; l++) {
    const mci_level* level = &topo->level[l];
    mci_str_add(out, "  - {name: %s", level->name);
    if (of) {
      print_repeat(topo, l, out);
    } else {
      print_groups(topo, level, out);
    }
    mci_str_add(out, ", links: links-%u}\n", class_of(c, l ? (level - 1)->link : topo->link));
  }
}

/* ---- lists ---- */

static void begin_item(const char* key, uint32_t i, mci_str* out) {
  if (i == 0) {
    mci_str_add(out, "%s: [", key);
  } else {
    mci_str_add(out, i % 16 ? ", " : ",\n  ");
  }
}

static void print_nodes(const mci_topo* topo, const char* key, const uint32_t* list, uint32_t n, mci_str* out) {
  for (uint32_t i = 0; i < n; i++) {
    begin_item(key, i, out);
    mci_grid_print_node(topo, list[i], out);
  }
  if (n) mci_str_add(out, "]\n");
}

static void print_cuts(const mci_topo* topo, mci_str* out) {
  for (uint32_t i = 0; i < topo->ncut; i++) {
    uint32_t node = (uint32_t)(topo->cut[i] / MCI_MAX_DIMS), dim = (uint32_t)(topo->cut[i] % MCI_MAX_DIMS);
    begin_item("cut", i, out);
    mci_grid_print_node(topo, node, out);
    mci_str_add(out, "-");
    mci_grid_print_node(topo, (uint32_t)mci_grid_step(topo, node, dim, true), out);
  }
  if (topo->ncut) mci_str_add(out, "]\n");
}

static void print_planes(const mci_topo* topo, classes* c, mci_str* out) {
  if (topo->nplanes) mci_str_add(out, "planes:\n");
  for (uint32_t p = 0; p < topo->nplanes; p++) {
    const mci_plane* plane = &topo->plane[p];
    mci_str_add(out, "  - {name: %s, links: links-%u, nodes: [", plane->name, class_of(c, plane->link));
    for (uint32_t i = 0; i < plane->npatterns; i++) {
      mci_str_add(out, "%s\"", i ? ", " : "");
      for (uint32_t d = 0; d < topo->ndims; d++) {
        mci_str_add(out, "%s", d ? "." : "");
        mci_str_add(out, plane->patterns[i][d] == MCI_ANY ? "*" : "%u", plane->patterns[i][d]);
      }
      mci_str_add(out, "\"");
    }
    mci_str_add(out, "]}\n");
  }
}

static void print_dims(const mci_topo* topo, const char* key, const bool* chosen, mci_str* out) {
  bool any = false;
  for (uint32_t d = topo->ndims; d-- > 0; any = any || chosen[d])
    if (chosen[d]) mci_str_add(out, "%s%s%c", any ? "" : key, any ? "" : ": ", "xyzw"[topo->ndims - 1 - d]);
  if (any) mci_str_add(out, "\n");
}

/* ---- the whole ---- */

static void print_shape(const mci_topo* topo, mci_str* out) {
  uint32_t closed = 0;
  for (uint32_t d = 0; d < topo->ndims; d++) closed += topo->ring[d];
  bool torus = closed > 0 && closed == topo->ndims;
  mci_str_add(out, "shape: %s\n", topo->full ? "full" : torus ? "torus" : "mesh");
  if (closed > 0 && !torus) print_dims(topo, "wrap", topo->ring, out);
  print_dims(topo, "apart", topo->apart, out);
}

static void print_sides(const mci_topo* topo, classes* c, mci_str* out) {
  mci_str_add(out, "sides: ");
  print_numbers(topo->full ? &topo->nodes : topo->side, MCI_MAX(topo->ndims, 1u), out);
  mci_link outermost = topo->nlevels ? topo->level[topo->nlevels - 1].link : topo->link;
  mci_str_add(out, "\nlinks: links-%u\n", class_of(c, outermost));
}

meshcclResult_t mci_machine_print(const mci_topo* topo, mci_str* out) {
  classes c = {.n = 0};
  mci_str rest = {0};
  bool of = repeats(topo);
  class_of(&c, topo->link);
  if (!of) print_sides(topo, &c, &rest);
  print_levels(topo, of, &c, &rest);
  print_nodes(topo, "dead", topo->dead, topo->ndead, &rest);
  print_cuts(topo, &rest);
  print_planes(topo, &c, &rest);
  print_nodes(topo, "pick", topo->pick, topo->npick, &rest);
  if (!topo->routed) mci_str_add(&rest, "messages: neighbours\n");
  if (topo->memory) mci_str_add(&rest, "messages: memory\n");
  for (uint32_t rank = 0; topo->map && rank < topo->nranks; rank++) {
    begin_item("map", rank, &rest);
    mci_str_add(&rest, "%u", topo->map[rank]);
  }
  if (topo->map) mci_str_add(&rest, "]\n");
  mci_str_add(out, "meshccl-machine: 1\n");
  print_shape(topo, out);
  print_classes(&c, out);
  if (rest.text) mci_str_add(out, "%s", rest.text);
  meshcclResult_t result = mci_str_result(&rest);
  mci_str_fini(&rest);
  return result == meshcclSuccess ? mci_str_result(out) : result;
}
