/* Delays in lower bounds, alone and together with bytes; see bounds.h for what is claimed and bounds_delay.h for the
 * calls. On whole grids the worst ways end in corners, so their number does not grow with the grid. */
#include "topo/bounds_delay.h"

#include "topo/grid.h"

/* Node visits that looking for the worst way around holes may cost; beyond, only some ranks are looked at. */
#define SEARCH_WORK 1000000u

static uint64_t saturated(unsigned __int128 value) { return value > UINT64_MAX ? UINT64_MAX : (uint64_t)value; }

static uint64_t least_delay(const mci_topo* topo) {
  uint64_t least = topo->link.lat_ps;
  for (uint32_t l = 0; l < topo->nlevels; l++) least = MCI_MIN(least, topo->level[l].link.lat_ps);
  for (uint32_t p = 0; p < topo->nplanes; p++) least = MCI_MIN(least, topo->plane[p].link.lat_ps);
  return least;
}

static bool closed_form(const mci_topo* topo) { return mci_topo_is_regular(topo) && topo->nplanes == 0; }

uint64_t mci_bound_delay_ps(const mci_topo* topo, bool rooted, uint32_t root) {
  if (topo->nranks == 1) return 0;
  if (topo->full) {
    uint32_t top = topo->nlevels;
    while (top > 0 && topo->level[top - 1].ngroups == 1) top--;
    return mci_topo_class(topo, top).lat_ps;
  }
  if (!closed_form(topo)) {
    uint64_t hops = rooted ? mci_topo_eccentricity(topo, root) : mci_topo_diameter(topo);
    return saturated((unsigned __int128)hops * least_delay(topo));
  }
  uint32_t at[MCI_MAX_DIMS];
  unsigned __int128 sum = 0;
  mci_topo_coords(topo, root, at);
  for (uint32_t d = 0; d < topo->ndims; d++) {
    uint32_t end = topo->side[d] - 1;
    if (mci_topo_wraps(topo, d)) {
      sum += (unsigned __int128)(topo->side[d] / 2) * least_delay(topo);
    } else if (rooted) {
      sum += MCI_MAX(mci_levels_delay_ps(topo, d, 0, at[d]), mci_levels_delay_ps(topo, d, at[d], end));
    } else {
      sum += mci_levels_delay_ps(topo, d, 0, end);
    }
  }
  return saturated(sum);
}

/* ---- delay and bytes ---- */

/* Rate of all links of a node in one direction. */
static unsigned __int128 ports_Bps(const mci_topo* topo, uint32_t node) {
  unsigned __int128 sum = 0;
  for (uint32_t i = 0; i < 2 * topo->ndims; i++) {
    int64_t next = mci_grid_next(topo, node, i / 2, i % 2);
    if (next >= 0) sum += mci_topo_class(topo, mci_levels_class(topo, node, (uint32_t)next)).bw_Bps;
  }
  for (uint32_t p = 0; p < topo->nplanes; p++)
    if (mci_plane_has(&topo->plane[p], node)) sum += topo->plane[p].link.bw_Bps;
  return sum;
}

/* On a full graph: a link to each of its own group, and what the ports of the groups around it let through. */
static unsigned __int128 full_ports_Bps(const mci_topo* topo, uint32_t rank) {
  uint64_t inside = topo->nranks;
  unsigned __int128 sum = 0;
  for (uint32_t l = topo->nlevels; l-- > 0;) {
    if (topo->level[l].ngroups == 1) continue;
    sum += topo->level[l].link.bw_Bps;
    inside = mci_topo_group_size(topo, l, mci_topo_group(topo, l, rank));
  }
  return sum + (unsigned __int128)(topo->memory ? inside > 1 : inside - 1) * topo->link.bw_Bps;
}

static void raise_to(mci_bound_way* worst, uint64_t way_ps, uint64_t bytes, unsigned __int128 bw_Bps) {
  if (bw_Bps == 0) return;
  uint64_t entry_ps = saturated((unsigned __int128)bytes * 1000000000000u / bw_Bps);
  if ((unsigned __int128)way_ps + entry_ps <= (unsigned __int128)worst->way_ps + worst->entry_ps) return;
  *worst = (mci_bound_way){way_ps, entry_ps};
}

/* Corners: both ends of open dimensions; of closed ones the place half way round from the root. */
static mci_bound_way way_to_corner(const mci_topo* topo, bool rooted, uint32_t root, uint64_t bytes) {
  mci_bound_way worst = {0, 0};
  uint32_t from[MCI_MAX_DIMS], to[MCI_MAX_DIMS];
  mci_grid_split(topo, mci_grid_node(topo, root), from);
  for (uint32_t code = 0; code < 1u << topo->ndims; code++) {
    unsigned __int128 way = 0;
    for (uint32_t d = 0; d < topo->ndims; d++) {
      uint32_t side = topo->side[d], end = side - 1;
      to[d] = code >> d & 1 ? end : 0;
      if (mci_topo_wraps(topo, d)) {
        to[d] = (from[d] + side / 2) % side;
        way += (unsigned __int128)(side / 2) * least_delay(topo);
      } else if (rooted) {
        way += mci_levels_delay_ps(topo, d, MCI_MIN(from[d], to[d]), MCI_MAX(from[d], to[d]));
      } else {
        way += mci_levels_delay_ps(topo, d, 0, end);
      }
    }
    raise_to(&worst, saturated(way), bytes, ports_Bps(topo, mci_grid_join(topo, to)));
  }
  return worst;
}

static mci_bound_way way_around_holes(const mci_topo* topo, bool rooted, uint32_t root, uint64_t bytes) {
  mci_bound_way worst = {0, 0};
  uint64_t step = rooted ? 1 : 1 + (uint64_t)topo->nranks * topo->nodes / SEARCH_WORK;
  for (uint64_t rank = 0; rank < topo->nranks; rank += step) {
    uint32_t hops = rooted ? mci_topo_hops(topo, root, (uint32_t)rank) : mci_topo_eccentricity(topo, (uint32_t)rank);
    uint64_t way = saturated((unsigned __int128)hops * least_delay(topo));
    if (hops > 0) raise_to(&worst, way, bytes, ports_Bps(topo, mci_grid_node(topo, (uint32_t)rank)));
  }
  return worst;
}

mci_bound_way mci_bound_way_of(const mci_topo* topo, bool rooted, uint32_t root, uint64_t bytes) {
  mci_bound_way worst = {0, 0};
  if (topo->nranks == 1) return worst;
  uint64_t far = mci_bound_delay_ps(topo, rooted, root);
  if (topo->full) {
    raise_to(&worst, far, bytes, full_ports_Bps(topo, root));
    return worst;
  }
  worst = closed_form(topo) ? way_to_corner(topo, rooted, root, bytes) : way_around_holes(topo, rooted, root, bytes);
  if (rooted) raise_to(&worst, far, bytes, ports_Bps(topo, mci_grid_node(topo, root)));
  return worst;
}
