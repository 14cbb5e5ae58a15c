/* Reads level=NAME:BOX[:RATE][:DELAY][:o=COST] of a spec. Levels come from the inside out; figures that are left out
 * are those of the level inside. */
#include <string.h>

#include "topo/levels.h"
#include "topo/spec.h"

bool mci_spec_is_name(mci_piece s) {
  static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", more[] = "0123456789-_";
  if (s.at == s.end || s.end - s.at >= MCI_MAX_LEVEL_NAME || !strchr(letters, *s.at)) return false;
  for (const char* c = s.at; c < s.end; c++)
    if (!strchr(letters, *c) && !strchr(more, *c)) return false;
  return true;
}

static meshcclResult_t read_name(const mci_spec* p, mci_piece name, mci_level* level) {
  if (!mci_spec_is_name(name))
    COMPLAIN(p, name, "is no name of a level; write up to %d letters, digits, '-' and '_', a letter first, as in %s",
             MCI_MAX_LEVEL_NAME - 1, p->topo->full ? "level=host:4+4" : "level=tile:5x5");
  for (uint32_t l = 0; l < p->topo->nlevels; l++)
    if (mci_spec_equals(name, p->topo->level[l].name)) COMPLAIN(p, name, "names two levels; give each its own name");
  memcpy(level->name, name.at, (size_t)(name.end - name.at));
  return meshcclSuccess;
}

/* ---- grids: 5x5, or 5x5-0x2 ---- */

static bool read_numbers(const mci_topo* topo, mci_piece text, uint32_t* out) {
  uint32_t n = 0;
  for (const char* at = text.at;; at++) {
    mci_piece one = mci_spec_until(at, text.end, "x");
    if (n == topo->ndims || !mci_spec_number(one, &out[n++])) return false;
    at = one.end;
    if (at == text.end) return n == topo->ndims;
  }
}

/* Every wall of `outer` must be one of `inner`. */
static bool holds(const mci_topo* topo, const mci_level* outer, const mci_level* inner, uint32_t dim) {
  if (mci_level_along(topo, outer, dim) == 1) return true;
  return outer->box[dim] % inner->box[dim] == 0 && outer->before[dim] % inner->box[dim] == inner->before[dim];
}

static meshcclResult_t read_box(const mci_spec* p, mci_piece text, mci_level* level) {
  const mci_topo* topo = p->topo;
  mci_piece sides = mci_spec_until(text.at, text.end, "-"), before = {sides.end + 1, text.end};
  if (!read_numbers(topo, sides, level->box))
    COMPLAIN(p, sides, "is no box; write %u side%s in nodes, such as %s", topo->ndims, topo->ndims > 1 ? "s" : "",
             &"2x2x2x2"[2 * (MCI_MAX_DIMS - topo->ndims)]);
  if (sides.end < text.end && !read_numbers(topo, before, level->before))
    COMPLAIN(p, before, "does not say how far the first boxes lie outside the grid; write one number per side");
  for (uint32_t d = 0; d < topo->ndims; d++) {
    uint64_t covered = (uint64_t)level->before[d] + topo->side[d];
    if (level->box[d] == 0) COMPLAIN(p, sides, "has a side of zero; the smallest side is 1");
    if (level->before[d] >= level->box[d])
      COMPLAIN(p, before, "moves the first boxes out of the grid; shift them less");
    if (level->box[d] > covered || (level->before[d] > 0 && level->box[d] == covered))
      COMPLAIN(p, sides, "is larger than the grid, whose side %u is %u; write at most that", d + 1, topo->side[d]);
    const mci_level* inner = level - 1;
    if (topo->nlevels > 0 && !holds(topo, level, inner, d))
      COMPLAIN(p, text, "cuts through groups of level %s; make side %u a multiple of %u, or %u", inner->name, d + 1,
               inner->box[d], topo->side[d]);
  }
  return meshcclSuccess;
}

/* ---- full graphs: 4+4+3, or 4*25+3 ---- */

static meshcclResult_t read_run(const mci_spec* p, mci_piece text, uint64_t* total, mci_level* level) {
  mci_piece first = mci_spec_until(text.at, text.end, "*");
  uint32_t length, count = 1;
  bool fits = mci_spec_number(first, &length) && length > 0;
  if (first.end < text.end) fits = fits && mci_spec_number((mci_piece){first.end + 1, text.end}, &count) && count > 0;
  if (!fits) COMPLAIN(p, text, "is no group; write how many ranks it has, such as 4, or 4*25 for 25 groups of 4");
  *total += (uint64_t)length * count;
  if (*total > p->topo->nodes) return meshcclSuccess; /* complained of with the sum */
  return mci_level_add_runs(level, length, count);
}

/* Whether every run of `outer` starts where one of `inner` starts. Steps from one list of equal runs to the next. */
static bool runs_hold(const mci_topo* topo, const mci_level* outer, const mci_level* inner) {
  uint32_t i = 0;
  for (uint32_t o = 0; o < outer->nruns; o++) {
    uint64_t at = outer->runs[o].node, length = outer->runs[o].length, end = at + length * outer->runs[o].count;
    while (at < end) {
      while (i + 1 < inner->nruns && inner->runs[i + 1].node <= at) i++;
      uint64_t inner_end = i + 1 < inner->nruns ? inner->runs[i + 1].node : topo->nodes;
      uint64_t inside = (MCI_MIN(end, inner_end) - at + length - 1) / length; /* starts among these inner runs */
      if ((at - inner->runs[i].node) % inner->runs[i].length) return false;
      if (inside > 1 && length % inner->runs[i].length) return false;
      at += inside * length;
    }
  }
  return true;
}

static meshcclResult_t read_runs(const mci_spec* p, mci_piece text, mci_level* level) {
  uint64_t total = 0;
  for (const char* at = text.at;; at++) {
    mci_piece one = mci_spec_until(at, text.end, "+");
    MCI_TRY(read_run(p, one, &total, level));
    at = one.end;
    if (at == text.end || total > p->topo->nodes) break;
  }
  if (total != p->topo->nodes)
    COMPLAIN(p, text, "%s %u ranks, which the topology has; groups of a level hold every rank once",
             total < p->topo->nodes ? "adds up to less than the" : "adds up to more than the", p->topo->nodes);
  if (p->topo->nlevels > 0 && !runs_hold(p->topo, level, level - 1))
    COMPLAIN(p, text, "cuts through groups of level %s; let each group hold whole ones", (level - 1)->name);
  return meshcclSuccess;
}

/* ---- figures ---- */

static meshcclResult_t read_figure(const mci_spec* p, mci_piece text, mci_piece seen[3], mci_link* link) {
  static const char* const names[] = {"rate", "delay", "cost per message"};
  bool is_cost = text.end - text.at > 2 && memcmp(text.at, "o=", 2) == 0;
  mci_piece value = {text.at + (is_cost ? 2 : 0), text.end};
  mci_unit_kind kind;
  uint64_t amount;
  const char* reason = mci_unit_parse(value.at, (size_t)(value.end - value.at), &kind, &amount);
  if (reason) COMPLAIN(p, value, "%s", reason);
  if (is_cost && kind != MCI_UNIT_TIME) COMPLAIN(p, value, "is a rate; o= takes a time such as 20ns");
  unsigned which = is_cost ? 2 : kind == MCI_UNIT_TIME;
  if (seen[which].at) COMPLAIN(p, text, "is a second %s; give one", names[which]);
  seen[which] = text;
  *(is_cost ? &link->cost_ps : which ? &link->lat_ps : &link->bw_Bps) = amount;
  return meshcclSuccess;
}

meshcclResult_t mci_spec_link(const mci_spec* p, mci_piece text, mci_link* link) {
  mci_piece seen[3] = {{0}};
  for (const char* at = text.at;; at++) {
    mci_piece one = mci_spec_until(at, text.end, ":");
    MCI_TRY(read_figure(p, one, seen, link));
    at = one.end;
    if (at == text.end) return meshcclSuccess;
  }
}

/* ---- */

static meshcclResult_t read_level(const mci_spec* p, mci_piece text) {
  mci_topo* topo = p->topo;
  mci_level* level = &topo->level[topo->nlevels];
  level->link = topo->nlevels ? (level - 1)->link : topo->link;
  mci_piece name = mci_spec_until(text.at, text.end, ":");
  MCI_TRY(read_name(p, name, level));
  if (name.end == text.end)
    COMPLAIN(p, name, "lacks its groups; write %s", topo->full ? "level=NAME:4+4" : "level=NAME:5x5");
  mci_piece groups = mci_spec_until(name.end + 1, text.end, ":");
  MCI_TRY(topo->full ? read_runs(p, groups, level) : read_box(p, groups, level));
  if (groups.end < text.end) MCI_TRY(mci_spec_link(p, (mci_piece){groups.end + 1, text.end}, &level->link));
  topo->nlevels++;
  return meshcclSuccess;
}

meshcclResult_t mci_spec_levels(mci_spec* p) {
  for (uint32_t l = 0; l < p->nlevels; l++) {
    meshcclResult_t result = read_level(p, p->level[l]);
    if (result == meshcclSuccess) continue;
    mci_level_fini(&p->topo->level[p->topo->nlevels]);
    return result;
  }
  return meshcclSuccess;
}
