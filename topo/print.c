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

/* wrap= says what neither "mesh" nor "torus" does: some dimensions closed, others open. */
static void print_wrap(const mci_topo* topo, mci_str* out) {
  uint32_t closed = 0;
  for (uint32_t d = 0; d < topo->ndims; d++) closed += topo->ring[d];
  if (closed == 0 || closed == topo->ndims) return;
  mci_str_add(out, ",wrap=");
  for (uint32_t d = topo->ndims; d-- > 0;)
    if (topo->ring[d]) mci_str_add(out, "%c", axes[topo->ndims - 1 - d]);
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
  print_nodes(topo, ",dead=", topo->dead, topo->ndead, out);
  print_cuts(topo, out);
  print_nodes(topo, ",pick=", topo->pick, topo->npick, out);
  if (!topo->routed) mci_str_add(out, ",neighbours");
  for (uint32_t rank = 0; topo->map && rank < topo->nranks; rank++)
    mci_str_add(out, "%s%u", rank ? "." : ",map=", topo->map[rank]);
  return mci_str_result(out);
}
