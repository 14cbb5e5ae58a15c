/* Reads a topology from text; docs/topology-format.md is the manual. Every complaint names the offending text, where it
 * stands and what to write instead. Lists may come in any order and in any number of entries; mci_grid_finish sorts. */
#include "topo/spec.h"

#include <stdio.h>
#include <string.h>

#include "topo/grid.h"

static meshcclResult_t complain_at_place(const mci_places* places, size_t at, int shown, const char* text,
                                         const char* cause) {
  uint32_t i = 0;
  while (i + 1 < places->n && places->list[i + 1].at <= at) i++;
  const mci_place* place = &places->list[i];
  size_t column = place->column + (place->copied && at > place->at ? at - place->at : 0);
  MCI_FAIL(meshcclInvalidArgument, "%s:%u:%zu: \"%.*s\" %s", places->name, place->line, column, shown, text, cause);
}

meshcclResult_t mci_spec_complain(const mci_spec* p, mci_piece where, const char* format, ...) {
  char cause[512];
  va_list args;
  va_start(args, format);
  vsnprintf(cause, sizeof cause, format, args);
  va_end(args);
  int shown = (int)MCI_MIN(where.end - where.at, (ptrdiff_t)60);
  size_t at = (size_t)(where.at - p->spec);
  if (p->places && p->places->n) return complain_at_place(p->places, at, shown, where.at, cause);
  bool cut = strlen(p->spec) > 100;
  MCI_FAIL(meshcclInvalidArgument, "topology \"%.100s%s\": \"%.*s\" at character %zu %s", p->spec, cut ? "..." : "",
           shown, where.at, at + 1, cause);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool mci_spec_equals(mci_piece s, const char* word) {
  return (size_t)(s.end - s.at) == strlen(word) && memcmp(s.at, word, strlen(word)) == 0;
}
mci_piece mci_spec_until(const char* at, const char* end, const char* stops) {
  const char* stop = at;
  while (stop < end && !strchr(stops, *stop)) stop++;
  return (mci_piece){at, stop};
}

/* A whole piece of digits; numbers beyond the limit of nodes all read as UINT32_MAX. */
bool mci_spec_number(mci_piece s, uint32_t* out) {
  uint64_t value = 0;
  if (s.at == s.end) return false;
  for (const char* c = s.at; c < s.end; c++) {
    if (!is_digit(*c)) return false;
    value = MCI_MIN(value * 10 + (uint64_t)(*c - '0'), (uint64_t)UINT32_MAX);
  }
  *out = (uint32_t)value;
  return true;
}

/* ---- shape ---- */

static const struct {
  const char* name;
  uint32_t min_dims, max_dims;
  bool ring;
} kinds[] = {
    {"ring", 1, 1, true}, {"line", 1, 1, false}, {"mesh", 1, 4, false}, {"torus", 1, 4, true}, {"full", 0, 0, false}};

static meshcclResult_t read_sides(const mci_spec* p, mci_piece sides, uint32_t* side, uint32_t* n) {
  uint64_t nodes = 1;
  *n = 0;
  for (const char* at = sides.at;; at++) {
    mci_piece one = mci_spec_until(at, sides.end, "x");
    if (*n == MCI_MAX_DIMS)
      COMPLAIN(p, sides, "has more than %d sides; a grid has at most %d", MCI_MAX_DIMS, MCI_MAX_DIMS);
    if (!mci_spec_number(one, &side[*n])) COMPLAIN(p, sides, "is no shape; write sides such as 4x4 or 8");
    if (side[*n] == 0) COMPLAIN(p, one, "is a side of zero; the smallest side is 1");
    nodes *= side[(*n)++];
    if (nodes > MCI_MAX_NODES) COMPLAIN(p, sides, "has too many nodes; the limit is %u", MCI_MAX_NODES);
    at = one.end;
    if (at == sides.end) return meshcclSuccess;
  }
}

static const char* nearest_kind(mci_piece kind) {
  char word[32];
  snprintf(word, sizeof word, "%.*s", (int)MCI_MIN(kind.end - kind.at, (ptrdiff_t)31), kind.at);
  const char* best = kinds[0].name;
  for (size_t i = 1; i < MCI_COUNT(kinds); i++)
    if (mci_distance(word, kinds[i].name) < mci_distance(word, best)) best = kinds[i].name;
  return best;
}

static meshcclResult_t read_shape(mci_spec* p, mci_piece shape) {
  mci_piece kind = mci_spec_until(shape.at, shape.end, ":");
  size_t row = 0;
  while (row < MCI_COUNT(kinds) && !mci_spec_equals(kind, kinds[row].name)) row++;
  if (row == MCI_COUNT(kinds))
    COMPLAIN(p, kind, "is no kind of topology; write ring, line, mesh, torus or full (%s?)", nearest_kind(kind));
  if (kind.end == shape.end)
    COMPLAIN(p, kind, "lacks its size; write %s:%s", kinds[row].name, kinds[row].max_dims > 1 ? "4x4" : "8");
  mci_piece sides = {kind.end + 1, shape.end};
  uint32_t side[MCI_MAX_DIMS], n;
  MCI_TRY(read_sides(p, sides, side, &n));
  bool full = kinds[row].max_dims == 0;
  if (n > MCI_MAX(kinds[row].max_dims, 1u))
    COMPLAIN(p, sides, "has %u sides, a %s has one; write %s:%.*s", n, kinds[row].name,
             full              ? "full:N, mesh"
             : kinds[row].ring ? "torus"
                               : "mesh",
             (int)(sides.end - sides.at), sides.at);
  bool ring[MCI_MAX_DIMS];
  for (uint32_t d = 0; d < n; d++) ring[d] = kinds[row].ring;
  return mci_grid_create(full ? 0 : n, side, ring, &p->topo);
}

/* ---- lists of nodes and links ---- */

static meshcclResult_t read_node(const mci_spec* p, mci_piece text, uint32_t* out) {
  const mci_topo* topo = p->topo;
  uint32_t coords[MCI_MAX_DIMS], n = 0;
  for (const char* at = text.at;; at++) {
    mci_piece one = mci_spec_until(at, text.end, ".");
    if (n == topo->ndims || !mci_spec_number(one, &coords[n])) {
      n = 0;
      break;
    }
    n++;
    at = one.end;
    if (at == text.end) break;
  }
  if (n != topo->ndims)
    COMPLAIN(p, text, "is no node; write %u number%s, slowest dimension first, such as %s", topo->ndims,
             topo->ndims > 1 ? "s joined by points" : "", &"0.0.0.0"[2 * (MCI_MAX_DIMS - topo->ndims)]);
  for (uint32_t d = 0; d < n; d++) {
    if (coords[d] < topo->side[d]) continue;
    mci_str last = {0};
    mci_grid_print_node(topo, topo->nodes - 1, &last);
    meshcclResult_t result =
        mci_spec_complain(p, text, "lies outside the grid, whose last node is %s", last.text ? last.text : "?");
    mci_str_fini(&last);
    return result;
  }
  *out = mci_grid_join(topo, coords);
  return meshcclSuccess;
}

static meshcclResult_t mark(const mci_spec* p, uint64_t bit, mci_piece text) {
  if (p->seen[bit / 8] >> bit % 8 & 1) COMPLAIN(p, text, "is listed twice; list it once");
  p->seen[bit / 8] |= (uint8_t)(1u << bit % 8);
  return meshcclSuccess;
}

static meshcclResult_t add_node(mci_spec* p, mci_piece text, uint32_t** list, uint32_t* n, uint32_t* cap) {
  uint32_t node;
  MCI_TRY(read_node(p, text, &node));
  MCI_TRY(mark(p, node, text));
  MCI_TRY(mci_grow(list, sizeof **list, cap, (size_t)*n + 1));
  (*list)[(*n)++] = node;
  return meshcclSuccess;
}

static meshcclResult_t add_dead(mci_spec* p, mci_piece text) {
  return add_node(p, text, &p->topo->dead, &p->topo->ndead, &p->topo->cap_dead);
}

static meshcclResult_t add_pick(mci_spec* p, mci_piece text) {
  return add_node(p, text, &p->topo->pick, &p->topo->npick, &p->topo->cap_pick);
}

static meshcclResult_t add_cut(mci_spec* p, mci_piece text) {
  mci_topo* topo = p->topo;
  mci_piece first = mci_spec_until(text.at, text.end, "-");
  if (first.end == text.end) COMPLAIN(p, text, "is no link; write two neighbours joined by '-', such as 0.0-0.1");
  uint32_t a, b;
  MCI_TRY(read_node(p, first, &a));
  MCI_TRY(read_node(p, (mci_piece){first.end + 1, text.end}, &b));
  for (uint32_t d = 0; d < topo->ndims; d++) {
    bool up = mci_grid_step(topo, a, d, true) == b;
    if (!up && mci_grid_step(topo, a, d, false) != b) continue;
    uint64_t link = mci_grid_link(up ? a : b, d);
    MCI_TRY(mark(p, link, text));
    MCI_TRY(mci_grow(&topo->cut, sizeof *topo->cut, &topo->cap_cut, (size_t)topo->ncut + 1));
    topo->cut[topo->ncut++] = link;
    return meshcclSuccess;
  }
  COMPLAIN(p, text, "joins no neighbours: there is no such link to cut; coordinates differ by one in one dimension");
}

static meshcclResult_t read_list(mci_spec* p, mci_piece value, uint64_t bits,
                                 meshcclResult_t (*add)(mci_spec*, mci_piece)) {
  p->seen = mci_alloc(bits / 8 + 1);
  if (!p->seen) return mci_oom(bits / 8 + 1);
  meshcclResult_t result = meshcclSuccess;
  for (const char* at = value.at; result == meshcclSuccess; at++) {
    mci_piece one = mci_spec_until(at, value.end, "+");
    result = add(p, one);
    at = one.end;
    if (at == value.end) break;
  }
  mci_free(p->seen);
  p->seen = NULL;
  return result;
}

/* ---- options ---- */

static meshcclResult_t read_map(mci_spec* p, mci_piece value) {
  for (const char* at = value.at;; at++) {
    mci_piece one = mci_spec_until(at, value.end, ".");
    uint32_t node;
    if (!mci_spec_number(one, &node))
      COMPLAIN(p, one, "is no entry of a rank map; write node numbers joined by points, such as 3.1.0.2");
    MCI_TRY(mci_grow(&p->map, sizeof *p->map, &p->cap_map, (size_t)p->nmap + 1));
    p->map[p->nmap++] = node;
    at = one.end;
    if (at == value.end) return meshcclSuccess;
  }
}

static meshcclResult_t read_wrap(mci_spec* p, mci_piece value) {
  mci_topo* topo = p->topo;
  if (topo->ndims < 2 || topo->ring[0]) COMPLAIN(p, value, "does not fit: wrap= is for a mesh of two or more sides");
  MCI_TRY(mci_spec_dims(p, value, topo->ring));
  if (value.at == value.end) COMPLAIN(p, p->given[MCI_OPT_WRAP], "names no dimension; write wrap=x, or leave it out");
  return meshcclSuccess;
}

static meshcclResult_t read_quantity(mci_spec* p, mci_piece value, bool is_cost) {
  mci_unit_kind kind;
  uint64_t amount;
  const char* reason = mci_unit_parse(value.at, (size_t)(value.end - value.at), &kind, &amount);
  if (reason) COMPLAIN(p, value, "%s", reason);
  if (is_cost) {
    if (kind != MCI_UNIT_TIME) COMPLAIN(p, value, "is a rate; o= takes a time such as 20ns");
    p->topo->link.cost_ps = amount;
    return meshcclSuccess;
  }
  mci_spec_option id = kind == MCI_UNIT_RATE ? MCI_OPT_RATE : MCI_OPT_TIME;
  if (p->given[id].at) COMPLAIN(p, value, "is a second %s; give one", id == MCI_OPT_RATE ? "rate" : "delay");
  p->given[id] = value;
  *(id == MCI_OPT_RATE ? &p->topo->link.bw_Bps : &p->topo->link.lat_ps) = amount;
  return meshcclSuccess;
}

static const struct {
  const char* name;
  mci_spec_option id;
  bool value;
  bool grid; /* needs coordinates */
} options[] = {
    {"o", MCI_OPT_COST, true, false},           {"wrap", MCI_OPT_WRAP, true, true},
    {"dead", MCI_OPT_DEAD, true, true},         {"cut", MCI_OPT_CUT, true, true},
    {"pick", MCI_OPT_PICK, true, true},         {"map", MCI_OPT_MAP, true, false},
    {"level", MCI_OPT_LEVEL, true, false},      {"apart", MCI_OPT_APART, true, true},
    {"plane", MCI_OPT_PLANE, true, true},       {"routed", MCI_OPT_MODE, false, false},
    {"neighbours", MCI_OPT_MODE, false, false}, {"neighbors", MCI_OPT_MODE, false, false},
    {"memory", MCI_OPT_MODE, false, false},
};

static meshcclResult_t read_option(mci_spec* p, mci_piece text) {
  if (text.at == text.end) COMPLAIN(p, text, "is an empty option; remove the comma or the '@'");
  if (is_digit(*text.at)) return read_quantity(p, text, false);
  mci_piece name = mci_spec_until(text.at, text.end, "=");
  size_t row = 0;
  while (row < MCI_COUNT(options) && !mci_spec_equals(name, options[row].name)) row++;
  if (row == MCI_COUNT(options))
    COMPLAIN(p, text,
             "is no option; options are a rate (50GB/s), a delay (500ns), o=, wrap=, apart=, level=, plane=, dead=, "
             "cut=, pick=, map=, routed, neighbours, memory");
  if (options[row].value != (name.end < text.end))
    COMPLAIN(p, text, options[row].value ? "lacks a value after '='" : "takes no value; write the word alone");
  if (options[row].grid && p->topo->full)
    COMPLAIN(p, text, "does not fit a full graph, which has no coordinates; give fewer ranks");
  mci_spec_option id = options[row].id;
  if (p->given[id].at && id != MCI_OPT_LEVEL && id != MCI_OPT_PLANE)
    COMPLAIN(p, text, "repeats an option; give it once");
  bool lists = id == MCI_OPT_DEAD || id == MCI_OPT_CUT || id == MCI_OPT_PICK || id == MCI_OPT_MAP ||
               id == MCI_OPT_APART || id == MCI_OPT_PLANE;
  if (lists && p->topo->nodes > MCI_MAX_LISTED_NODES)
    COMPLAIN(p, text, "is for topologies of at most %u nodes", MCI_MAX_LISTED_NODES);
  p->given[id] = text;
  mci_piece value = {name.end + (name.end < text.end), text.end};
  uint64_t nodes = p->topo->nodes;
  switch (id) {
    case MCI_OPT_COST:
      return read_quantity(p, value, true);
    case MCI_OPT_WRAP:
      return read_wrap(p, value);
    case MCI_OPT_MAP:
      return read_map(p, value);
    case MCI_OPT_MODE:
      p->topo->routed = *text.at != 'n';
      p->topo->memory = *text.at == 'm';
      if (p->topo->memory && !p->topo->full)
        COMPLAIN(p, text, "is for full graphs: ranks that share memory have no links; leave it out");
      return meshcclSuccess;
    case MCI_OPT_DEAD:
      return read_list(p, value, nodes, add_dead);
    case MCI_OPT_PICK:
      return read_list(p, value, nodes, add_pick);
    case MCI_OPT_LEVEL:
      if (p->nlevels == MCI_MAX_LEVELS)
        COMPLAIN(p, text, "is one level too many; there are at most %d", MCI_MAX_LEVELS);
      p->level[p->nlevels++] = value;
      return meshcclSuccess;
    case MCI_OPT_PLANE:
      if (p->nplanes == MCI_MAX_PLANES)
        COMPLAIN(p, text, "is one plane too many; there are at most %d", MCI_MAX_PLANES);
      p->plane[p->nplanes++] = value;
      return meshcclSuccess;
    default:
      return meshcclSuccess; /* MCI_OPT_APART and MCI_OPT_CUT wait until wrap= is known */
  }
}

static meshcclResult_t read_options(mci_spec* p, mci_piece text) {
  for (const char* at = text.at;; at++) {
    mci_piece one = mci_spec_until(at, text.end, ",");
    MCI_TRY(read_option(p, one));
    at = one.end;
    if (at == text.end) return meshcclSuccess;
  }
}

/* What only the whole spec shows. */
static meshcclResult_t check_whole(mci_spec* p) {
  mci_topo* topo = p->topo;
  mci_piece cut = p->given[MCI_OPT_CUT], apart = p->given[MCI_OPT_APART];
  if (apart.at) MCI_TRY(mci_spec_apart(p, (mci_piece){apart.at + strlen("apart="), apart.end}));
  if (cut.at)
    MCI_TRY(read_list(p, (mci_piece){cut.at + strlen("cut="), cut.end}, (uint64_t)topo->nodes * MCI_MAX_DIMS, add_cut));
  if (topo->ndead == topo->nodes)
    COMPLAIN(p, p->given[MCI_OPT_DEAD], "leaves no node alive; a topology has at least one rank");
  MCI_TRY(mci_spec_levels(p));
  MCI_TRY(mci_spec_planes(p));
  mci_grid_sort(topo);
  for (uint32_t i = 0; i < topo->npick; i++)
    if (mci_grid_is_dead(topo, topo->pick[i]))
      COMPLAIN(p, p->given[MCI_OPT_PICK], "picks a node that dead= lists; remove it from one list");
  MCI_TRY(mci_grid_finish(topo));
  if (!p->given[MCI_OPT_MAP].at) return meshcclSuccess;
  if (p->nmap != topo->nranks)
    COMPLAIN(p, p->given[MCI_OPT_MAP], "has %u entries for %u ranks; give one per rank", p->nmap, topo->nranks);
  char reason[160];
  MCI_TRY(mci_grid_check_map(p->map, p->nmap, reason, sizeof reason));
  if (reason[0]) COMPLAIN(p, p->given[MCI_OPT_MAP], "is no permutation: %s", reason);
  return mci_topo_set_map(topo, p->map, p->nmap);
}

static meshcclResult_t read_all(mci_spec* p) {
  const char* end = p->spec + strlen(p->spec);
  mci_piece shape = mci_spec_until(p->spec, end, "@");
  MCI_TRY(read_shape(p, shape));
  if (shape.end < end) MCI_TRY(read_options(p, (mci_piece){shape.end + 1, end}));
  return check_whole(p);
}

meshcclResult_t mci_topo_parse(const char* spec, mci_topo** out) { return mci_spec_parse(spec, NULL, out); }

meshcclResult_t mci_spec_parse(const char* spec, const mci_places* places, mci_topo** out) {
  mci_spec p = {.spec = spec, .places = places};
  meshcclResult_t result = read_all(&p);
  mci_free(p.map);
  if (result == meshcclSuccess) {
    *out = p.topo;
  } else {
    mci_topo_destroy(p.topo);
  }
  return result;
}
