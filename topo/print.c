/* A topology as text: one canonical form that spec.c reads back to the same topology. */
#include "topo/grid.h"

static const char axes[] = "xyzw";

void mci_grid_print_node(const mci_topo* topo, uint32_t node, mci_str* out) {
  uint32_t coords[MCI_MAX_DIMS];
  mci_grid_split(topo, node, coords);
  for (uint32_t d = 0; d < topo->ndims; d++) mci_str_add(out, "%s%u", d ? "." : "", coords[d]);
}

static void print_shape(const mci_topo* topo, mci_str* out) {
  if (topo->full) {
    mci_str_add(out, "full:%u", topo->nodes);
    return;
  }
  bool closed = true;
  for (uint32_t d = 0; d < topo->ndims; d++) closed = closed && topo->ring[d];
  const char* name = topo->ndims == 1 ? (closed ? "ring" : "line") : (closed ? "torus" : "mesh");
  for (uint32_t d = 0; d < topo->ndims; d++) {
    mci_str_add(out, "%s%c%u", d ? "" : name, d ? 'x' : ':', topo->side[d]);
  }
}

static void print_sides(const char* start, const uint32_t* side, uint32_t n, mci_str* out) {
  for (uint32_t d = 0; d < n; d++) mci_str_add(out, "%s%u", d ? "x" : start, side[d]);
}

static void print_groups(const mci_topo* topo, const mci_level* level, mci_str* out) {
  bool shifted = false;
  for (uint32_t d = 0; d < topo->ndims; d++) shifted = shifted || level->before[d] > 0;
  print_sides(":", level->box, topo->ndims, out);
  if (shifted) print_sides("-", level->before, topo->ndims, out);
  for (uint32_t i = 0; i < level->nruns; i++) {
    mci_str_add(out, "%c%u", i ? '+' : ':', level->runs[i].length);
    if (level->runs[i].count > 1) mci_str_add(out, "*%u", level->runs[i].count);
  }
}

static void print_levels(const mci_topo* topo, mci_str* out) {
  uint64_t cost = topo->link.cost_ps; /* of the level inside, which is the default */
  for (uint32_t l = 0; l < topo->nlevels; l++) {
    const mci_level* level = &topo->level[l];
    mci_str_add(out, ",level=%s", level->name);
    print_groups(topo, level, out);
    mci_str_add(out, ":");
    mci_unit_print(MCI_UNIT_RATE, level->link.bw_Bps, out);
    mci_str_add(out, ":");
    mci_unit_print(MCI_UNIT_TIME, level->link.lat_ps, out);
    if (level->link.cost_ps != cost) {
      mci_str_add(out, ":o=");
      mci_unit_print(MCI_UNIT_TIME, level->link.cost_ps, out);
    }
    cost = level->link.cost_ps;
  }
}

static void print_dims(const mci_topo* topo, const char* option, const bool* chosen, mci_str* out) {
  const char* before = option;
  for (uint32_t d = topo->ndims; d-- > 0; before = chosen[d] ? "" : before)
    if (chosen[d]) mci_str_add(out, "%s%c", before, axes[topo->ndims - 1 - d]);
}

static void print_planes(const mci_topo* topo, mci_str* out) {
  for (uint32_t p = 0; p < topo->nplanes; p++) {
    const mci_plane* plane = &topo->plane[p];
    mci_str_add(out, ",plane=%s:", plane->name);
    mci_unit_print(MCI_UNIT_RATE, plane->link.bw_Bps, out);
    mci_str_add(out, ":");
    mci_unit_print(MCI_UNIT_TIME, plane->link.lat_ps, out);
    if (plane->link.cost_ps != topo->link.cost_ps) {
      mci_str_add(out, ":o=");
      mci_unit_print(MCI_UNIT_TIME, plane->link.cost_ps, out);
    }
    for (uint32_t i = 0; i < plane->npatterns; i++)
      for (uint32_t d = 0; d < topo->ndims; d++) {
        mci_str_add(out, "%s", d ? "." : i ? "+" : ":");
        mci_str_add(out, plane->patterns[i][d] == MCI_ANY ? "*" : "%u", plane->patterns[i][d]);
      }
  }
}

/* wrap= says what neither "mesh" nor "torus" does: some dimensions closed, others open. */
static void print_wrap(const mci_topo* topo, mci_str* out) {
  uint32_t closed = 0;
  for (uint32_t d = 0; d < topo->ndims; d++) closed += topo->ring[d];
  if (closed == 0 || closed == topo->ndims) return;
  print_dims(topo, ",wrap=", topo->ring, out);
}

static void print_nodes(const mci_topo* topo, const char* option, const uint32_t* list, uint32_t n, mci_str* out) {
  for (uint32_t i = 0; i < n; i++) {
    mci_str_add(out, "%s", i ? "+" : option);
    mci_grid_print_node(topo, list[i], out);
  }
}

static void print_cuts(const mci_topo* topo, mci_str* out) {
  for (uint32_t i = 0; i < topo->ncut; i++) {
    uint32_t node = (uint32_t)(topo->cut[i] / MCI_MAX_DIMS), dim = (uint32_t)(topo->cut[i] % MCI_MAX_DIMS);
    mci_str_add(out, "%s", i ? "+" : ",cut=");
    mci_grid_print_node(topo, node, out);
    mci_str_add(out, "-");
    mci_grid_print_node(topo, (uint32_t)mci_grid_step(topo, node, dim, true), out);
  }
}

meshcclResult_t mci_topo_print(const mci_topo* topo, mci_str* out) {
  print_shape(topo, out);
  mci_str_add(out, "@");
  mci_unit_print(MCI_UNIT_RATE, topo->link.bw_Bps, out);
  mci_str_add(out, ",");
  mci_unit_print(MCI_UNIT_TIME, topo->link.lat_ps, out);
  if (topo->link.cost_ps) {
    mci_str_add(out, ",o=");
    mci_unit_print(MCI_UNIT_TIME, topo->link.cost_ps, out);
  }
  print_wrap(topo, out);
  print_dims(topo, ",apart=", topo->apart, out);
  print_levels(topo, out);
  print_nodes(topo, ",dead=", topo->dead, topo->ndead, out);
  print_cuts(topo, out);
  print_planes(topo, out);
  print_nodes(topo, ",pick=", topo->pick, topo->npick, out);
  if (!topo->routed) mci_str_add(out, ",neighbours");
  if (topo->memory) mci_str_add(out, ",memory");
  for (uint32_t rank = 0; topo->map && rank < topo->nranks; rank++)
    mci_str_add(out, "%s%u", rank ? "." : ",map=", topo->map[rank]);
  return mci_str_result(out);
}
