/* Reads apart=DIMS and plane=NAME[:RATE][:DELAY][:o=COST]:NODES of a spec. NODES are coordinates joined by '+', in
 * which
 * '*' stands for any: *.*.0+*.*.14 are two faces of a box. */
#include <string.h>

#include "topo/planes.h"
#include "topo/spec.h"

meshcclResult_t mci_spec_dims(const mci_spec* p, mci_piece value, bool out[MCI_MAX_DIMS]) {
  static const char axes[] = "xyzw";
  for (const char* at = value.at; at < value.end; at++) {
    const char* axis = strchr(axes, *at);
    uint32_t k = axis ? (uint32_t)(axis - axes) : MCI_MAX_DIMS;
    if (k >= p->topo->ndims || out[p->topo->ndims - 1 - k])
      COMPLAIN(p, value, "is no set of dimensions; write each of %.*s at most once (x is the last side)",
               (int)p->topo->ndims, axes);
    out[p->topo->ndims - 1 - k] = true;
  }
  return meshcclSuccess;
}

meshcclResult_t mci_spec_apart(mci_spec* p, mci_piece value) {
  if (value.at == value.end)
    COMPLAIN(p, p->given[MCI_OPT_APART], "names no dimension; write apart=%c, or leave it out",
             "xyzw"[p->topo->ndims - 1]);
  MCI_TRY(mci_spec_dims(p, value, p->topo->apart));
  for (uint32_t d = 0; d < p->topo->ndims; d++)
    if (p->topo->apart[d] && p->topo->ring[d])
      COMPLAIN(p, value, "names a dimension that is closed to a ring; a dimension without links is written as a mesh");
  return meshcclSuccess;
}

static meshcclResult_t read_pattern(const mci_spec* p, mci_piece text, mci_plane* plane) {
  const mci_topo* topo = p->topo;
  mci_pattern pattern = {0};
  uint32_t n = 0;
  bool good = true;
  for (const char* at = text.at; good; at++) {
    mci_piece one = mci_spec_until(at, text.end, ".");
    good = n < topo->ndims;
    if (good && mci_spec_equals(one, "*")) {
      pattern[n++] = MCI_ANY;
    } else if (good) {
      good = mci_spec_number(one, &pattern[n]) && pattern[n] < topo->side[n];
      n++;
    }
    at = one.end;
    if (at == text.end) break;
  }
  if (!good || n != topo->ndims)
    COMPLAIN(p, text, "is no set of nodes; write %u coordinate%s, '*' for any, each below its side, such as %s",
             topo->ndims, topo->ndims > 1 ? "s joined by points" : "", &"*.*.*.0"[2 * (MCI_MAX_DIMS - topo->ndims)]);
  return mci_plane_add(plane, pattern);
}

static meshcclResult_t read_plane(mci_spec* p, mci_piece text) {
  mci_topo* topo = p->topo;
  mci_plane* plane = &topo->plane[topo->nplanes++];
  plane->link = topo->link;
  mci_piece name = mci_spec_until(text.at, text.end, ":");
  if (!mci_spec_is_name(name))
    COMPLAIN(p, name, "is no name of a plane; write up to %d letters, digits, '-' and '_', a letter first",
             MCI_MAX_LEVEL_NAME - 1);
  memcpy(plane->name, name.at, (size_t)(name.end - name.at));
  for (uint32_t q = 0; q + 1 < topo->nplanes; q++)
    if (strcmp(plane->name, topo->plane[q].name) == 0) COMPLAIN(p, name, "names two planes; give each its own name");
  const char* nodes = text.end;
  while (nodes > name.end && nodes[-1] != ':') nodes--;
  if (nodes == name.end) COMPLAIN(p, name, "lacks its nodes; write plane=NAME:50GB/s:1us:*.0");
  if (nodes - 1 > name.end) MCI_TRY(mci_spec_link(p, (mci_piece){name.end + 1, nodes - 1}, &plane->link));
  for (const char* at = nodes;; at++) {
    mci_piece one = mci_spec_until(at, text.end, "+");
    MCI_TRY(read_pattern(p, one, plane));
    at = one.end;
    if (at == text.end) break;
  }
  if ((uint64_t)plane->npatterns * topo->nodes > MCI_MAX_PLANE_WORK)
    COMPLAIN(p, text, "lists too many nodes one by one; write '*' for coordinates that may be any");
  uint32_t found = 0;
  for (uint32_t node = 0; node < topo->nodes && found < 2; node++) found += mci_plane_fits(topo, plane, node);
  mci_piece all = {nodes, text.end};
  if (found < 2) COMPLAIN(p, all, "is one node; a plane joins two or more");
  return meshcclSuccess;
}

meshcclResult_t mci_spec_planes(mci_spec* p) {
  for (uint32_t i = 0; i < p->nplanes; i++) MCI_TRY(read_plane(p, p->plane[i]));
  return meshcclSuccess;
}
