/* From the tree of a machine file to a topology, by way of the one-line spec: levels are multiplied out, link classes
 * are written in full, and every piece remembers its line and column, so that the reader of specs checks the rest and
 * still complains of the file. The other direction is machine_print.c. */
#include "topo/machine.h"

#include <stdio.h>
#include <string.h>

#include "topo/machine_yaml.h"
#include "topo/spec.h"

#define NONE MCI_YAML_NONE
#define MAX_CLASSES 64 /* levels and planes together use fewer */

typedef struct {
  mci_yaml yaml;
  mci_str spec;
  mci_places places;
} machine;

/* ---- the tree ---- */

static uint32_t child_of(const machine* m, uint32_t node) { return m->yaml.nodes[node].child; }
static uint32_t after(const machine* m, uint32_t node) { return m->yaml.nodes[node].next; }
static bool is(const machine* m, uint32_t node, mci_yaml_kind kind) { return m->yaml.nodes[node].kind == kind; }

static meshcclResult_t unknown_key(const machine* m, uint32_t node, const char* const* keys, uint32_t n) {
  const char *text = mci_yaml_text(&m->yaml, node), *best = keys[0];
  char all[256] = "";
  for (uint32_t k = 0; k < n; k++) {
    if (mci_distance(text, keys[k]) < mci_distance(text, best)) best = keys[k];
    snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", k ? ", " : "", keys[k]);
  }
  return mci_yaml_complain(&m->yaml, node, "\"%.60s\" is no key here (%s?); keys are %s", text, best, all);
}

/* The values of a map, in the order of `keys`; NONE for those that are not there. */
static meshcclResult_t read_map(const machine* m, uint32_t map, const char* const* keys, uint32_t n, uint32_t* values) {
  if (!is(m, map, MCI_YAML_MAP))
    return mci_yaml_complain(&m->yaml, map, "here stand keys and values, such as %s: ..", keys[0]);
  for (uint32_t k = 0; k < n; k++) values[k] = NONE;
  for (uint32_t key = child_of(m, map); key != NONE; key = after(m, after(m, key))) {
    if (!is(m, key, MCI_YAML_SCALAR)) return mci_yaml_complain(&m->yaml, key, "a key is a word, not a list or a map");
    uint32_t k = 0;
    while (k < n && strcmp(mci_yaml_text(&m->yaml, key), keys[k]) != 0) k++;
    if (k == n) return unknown_key(m, key, keys, n);
    if (values[k] != NONE)
      return mci_yaml_complain(&m->yaml, key, "\"%s\" is given twice, also in line %u; give it once", keys[k],
                               m->yaml.nodes[values[k]].line);
    values[k] = after(m, key);
  }
  return meshcclSuccess;
}

/* A single value whose characters do not mean anything to the reader of specs. */
static meshcclResult_t check_word(const machine* m, uint32_t node, const char* what, const char* special) {
  if (!is(m, node, MCI_YAML_SCALAR))
    return mci_yaml_complain(&m->yaml, node, "%s is one value, not a list or a map", what);
  const char* text = mci_yaml_text(&m->yaml, node);
  if (!*text) return mci_yaml_complain(&m->yaml, node, "%s lacks its value", what);
  for (const char* c = text; *c; c++) {
    bool plain = (*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z');
    if (!plain && !strchr("._-/", *c) && !strchr(special, *c))
      return mci_yaml_complain(&m->yaml, node, "\"%.60s\" has a character that %s cannot have; remove \"%.*s\"", text,
                               what, (*c & 0x80) ? 4 : 1, c);
  }
  return meshcclSuccess;
}

static meshcclResult_t find_key(const machine* m, uint32_t map, const char* name, uint32_t* out) {
  *out = NONE;
  for (uint32_t key = child_of(m, map); key != NONE; key = after(m, after(m, key))) {
    if (!is(m, key, MCI_YAML_SCALAR) || strcmp(mci_yaml_text(&m->yaml, key), name) != 0) continue;
    if (*out != NONE)
      return mci_yaml_complain(&m->yaml, key, "\"%.60s\" is given twice, also in line %u; give it once", name,
                               m->yaml.nodes[*out].line);
    *out = after(m, key);
  }
  return meshcclSuccess;
}

/* ---- the spec ---- */

static meshcclResult_t mark(machine* m, uint32_t node, bool copied) {
  MCI_TRY(mci_grow(&m->places.list, sizeof *m->places.list, &m->places.cap, (size_t)m->places.n + 1));
  const mci_yaml_node* from = &m->yaml.nodes[node];
  m->places.list[m->places.n++] = (mci_place){m->spec.length, from->line, from->column, copied};
  return meshcclSuccess;
}

static meshcclResult_t copy_word(machine* m, const char* before, uint32_t node, const char* what, const char* special) {
  MCI_TRY(check_word(m, node, what, special));
  mci_str_add(&m->spec, "%s", before);
  MCI_TRY(mark(m, node, true));
  mci_str_add(&m->spec, "%s", mci_yaml_text(&m->yaml, node));
  return meshcclSuccess;
}

static meshcclResult_t copy_list(machine* m, const char* option, uint32_t list, const char* what, const char* join,
                                 const char* special) {
  if (list == NONE) return meshcclSuccess;
  if (!is(m, list, MCI_YAML_LIST)) return mci_yaml_complain(&m->yaml, list, "%s is a list, such as [0.0, 1.2]", what);
  if (child_of(m, list) == NONE) return meshcclSuccess;
  mci_str_add(&m->spec, "%c", *option); /* the ',' or ':' in front; what follows is the list's */
  MCI_TRY(mark(m, list, false));
  const char* before = option + 1;
  for (uint32_t item = child_of(m, list); item != NONE; item = after(m, item), before = join)
    MCI_TRY(copy_word(m, before, item, what, special));
  return meshcclSuccess;
}

/* ---- classes of links ---- */

enum { RATE, DELAY, COST, NUM_FIGURES };

static meshcclResult_t find_class(const machine* m, uint32_t classes, uint32_t name, uint32_t figures[NUM_FIGURES]) {
  static const char* const keys[] = {"rate", "delay", "cost"};
  uint32_t found;
  MCI_TRY(check_word(m, name, "the name of a class of links", ""));
  const char* text = mci_yaml_text(&m->yaml, name);
  MCI_TRY(find_key(m, classes, text, &found));
  if (found == NONE)
    return mci_yaml_complain(&m->yaml, name, "\"%.60s\" is no class of links; add it to `classes`", text);
  MCI_TRY(read_map(m, found, keys, NUM_FIGURES, figures));
  if (figures[RATE] == NONE || figures[DELAY] == NONE)
    return mci_yaml_complain(&m->yaml, found, "class \"%.60s\" lacks its %s", text,
                             figures[RATE] == NONE ? "rate, such as 50GB/s" : "delay, such as 500ns");
  return meshcclSuccess;
}

static meshcclResult_t copy_link(machine* m, uint32_t classes, uint32_t name, const char* first, const char* join) {
  uint32_t figures[NUM_FIGURES];
  char cost[8];
  MCI_TRY(find_class(m, classes, name, figures));
  MCI_TRY(copy_word(m, first, figures[RATE], "a rate", ""));
  MCI_TRY(copy_word(m, join, figures[DELAY], "a delay", ""));
  snprintf(cost, sizeof cost, "%so=", join);
  if (figures[COST] != NONE) return copy_word(m, cost, figures[COST], "a cost per message", "");
  mci_str_add(&m->spec, "%s0ps", cost);
  return meshcclSuccess;
}

/* Every class has figures that make sense, used or not. Names are looked up one by one, hence a limit. */
static meshcclResult_t check_classes(const machine* m, uint32_t classes) {
  if (!is(m, classes, MCI_YAML_MAP))
    return mci_yaml_complain(&m->yaml, classes, "classes are names with figures: NAME: {rate: 50GB/s, delay: 500ns}");
  uint32_t n = 0;
  for (uint32_t key = child_of(m, classes); key != NONE; key = after(m, after(m, key))) {
    uint32_t figures[NUM_FIGURES];
    if (n++ == MAX_CLASSES)
      return mci_yaml_complain(&m->yaml, key, "one class too many; there are at most %d, leave out what no link uses",
                               MAX_CLASSES);
    MCI_TRY(find_class(m, classes, key, figures));
    for (uint32_t i = 0; i < NUM_FIGURES; i++) {
      if (figures[i] == NONE) continue;
      MCI_TRY(check_word(m, figures[i], "a figure of a link", ""));
      const char* text = mci_yaml_text(&m->yaml, figures[i]);
      mci_unit_kind kind;
      uint64_t value;
      const char* reason = mci_unit_parse(text, strlen(text), &kind, &value);
      if (!reason && (kind == MCI_UNIT_RATE) != (i == RATE))
        reason = i == RATE ? "is a time; a rate is such as 50GB/s" : "is a rate; write a time such as 500ns";
      if (reason) return mci_yaml_complain(&m->yaml, figures[i], "\"%.60s\" %s", text, reason);
    }
  }
  return meshcclSuccess;
}

/* ---- levels ---- */

enum { NAME, OF, NODES, BEFORE, GROUPS, LINKS, NUM_LEVEL_KEYS };

typedef struct {
  uint32_t n;
  uint32_t keys[MCI_MAX_LEVELS][NUM_LEVEL_KEYS];
  uint32_t box[MCI_MAX_LEVELS][MCI_MAX_DIMS]; /* of `of` */
  uint32_t ndims;
} levels;

static meshcclResult_t read_levels(const machine* m, uint32_t list, bool sides, levels* out) {
  static const char* const keys[] = {"name", "of", "nodes", "before", "groups", "links"};
  if (!is(m, list, MCI_YAML_LIST))
    return mci_yaml_complain(&m->yaml, list,
                             "levels are a list from the inside out: - {name: tile, of: 5x5, links: ..}");
  for (uint32_t item = child_of(m, list); item != NONE; item = after(m, item)) {
    if (out->n == MCI_MAX_LEVELS)
      return mci_yaml_complain(&m->yaml, item, "one level too many; there are at most %d", MCI_MAX_LEVELS);
    uint32_t* found = out->keys[out->n++];
    MCI_TRY(read_map(m, item, keys, NUM_LEVEL_KEYS, found));
    if (found[NAME] == NONE) return mci_yaml_complain(&m->yaml, item, "the level lacks its name");
    if (found[LINKS] == NONE)
      return mci_yaml_complain(&m->yaml, item, "the level lacks `links`, the class of the links between its parts");
    uint32_t wrong = sides ? found[OF] : found[NODES] != NONE ? found[NODES] : found[GROUPS];
    if (wrong != NONE)
      return mci_yaml_complain(&m->yaml, wrong,
                               sides ? "with `sides` a level says `nodes` (a box) or `groups` (runs of a full graph)"
                                     : "without `sides` a level says `of`: how many of the level inside it repeats");
    if (!sides && (found[OF] == NONE || found[BEFORE] != NONE))
      return mci_yaml_complain(&m->yaml, item, "the level needs `of`, such as 2x3, and no `before`");
    if (sides && (found[NODES] == NONE) == (found[GROUPS] == NONE))
      return mci_yaml_complain(&m->yaml, item, "the level needs `nodes`, or `groups` on a full graph");
  }
  if (out->n == 0) return mci_yaml_complain(&m->yaml, list, "no level; leave `levels` out and give `sides`");
  return meshcclSuccess;
}

static meshcclResult_t read_repeat(const machine* m, uint32_t node, uint32_t* counts, uint32_t* n) {
  MCI_TRY(check_word(m, node, "`of`", ""));
  const char *text = mci_yaml_text(&m->yaml, node), *end = text + strlen(text);
  for (*n = 0;; text++) {
    mci_piece one = mci_spec_until(text, end, "x");
    if (*n == MCI_MAX_DIMS || !mci_spec_number(one, &counts[*n]) || counts[*n] == 0)
      return mci_yaml_complain(&m->yaml, node, "\"%.60s\" is no repetition; write 1 to 4 numbers such as 2x3",
                               mci_yaml_text(&m->yaml, node));
    (*n)++;
    text = one.end;
    if (text == end) return meshcclSuccess;
  }
}

/* Multiplies the repetitions out; those with fewer sides are repeated once along the first ones. */
static meshcclResult_t multiply(const machine* m, levels* l) {
  uint32_t counts[MCI_MAX_LEVELS][MCI_MAX_DIMS], n[MCI_MAX_LEVELS];
  for (uint32_t i = 0; i < l->n; i++) {
    MCI_TRY(read_repeat(m, l->keys[i][OF], counts[i], &n[i]));
    l->ndims = MCI_MAX(l->ndims, n[i]);
  }
  uint64_t nodes = 1;
  for (uint32_t i = 0; i < l->n; i++)
    for (uint32_t d = 0; d < l->ndims; d++) {
      uint32_t missing = l->ndims - n[i], count = d < missing ? 1 : counts[i][d - missing];
      nodes *= count;
      if (nodes > MCI_MAX_NODES)
        return mci_yaml_complain(&m->yaml, l->keys[i][OF], "the machine has more than %u nodes here; repeat less",
                                 MCI_MAX_NODES);
      l->box[i][d] = (i ? l->box[i - 1][d] : 1) * count;
    }
  return meshcclSuccess;
}

static void add_sides(machine* m, const levels* l, uint32_t level) {
  for (uint32_t d = 0; d < l->ndims; d++) mci_str_add(&m->spec, "%s%u", d ? "x" : "", l->box[level][d]);
}

/* The groups of a level: a box or runs. */
static meshcclResult_t add_groups(machine* m, const levels* l, uint32_t i, bool full) {
  const uint32_t* keys = l->keys[i];
  if (keys[OF] != NONE) {
    mci_str_add(&m->spec, ":");
    MCI_TRY(mark(m, keys[OF], false));
    add_sides(m, l, i);
    if (full) mci_str_add(&m->spec, "*%u", l->box[l->n - 1][0] / l->box[i][0]);
    return meshcclSuccess;
  }
  if (keys[GROUPS] != NONE) return copy_word(m, ":", keys[GROUPS], "`groups`", "+*");
  MCI_TRY(copy_word(m, ":", keys[NODES], "`nodes`", ""));
  return keys[BEFORE] == NONE ? meshcclSuccess : copy_word(m, "-", keys[BEFORE], "`before`", "");
}

/* The links between the groups of a level are those inside the next one. */
static meshcclResult_t add_levels(machine* m, const levels* l, uint32_t classes, uint32_t outermost, bool full) {
  for (uint32_t i = 0; i < l->n; i++) {
    MCI_TRY(copy_word(m, ",level=", l->keys[i][NAME], "the name of a level", ""));
    MCI_TRY(add_groups(m, l, i, full));
    uint32_t links = i + 1 < l->n ? l->keys[i + 1][LINKS] : outermost;
    if (links != NONE) MCI_TRY(copy_link(m, classes, links, ":", ":"));
  }
  return meshcclSuccess;
}

/* ---- planes ---- */

static meshcclResult_t add_planes(machine* m, uint32_t classes, uint32_t list) {
  static const char* const keys[] = {"name", "links", "nodes"};
  if (list == NONE) return meshcclSuccess;
  if (!is(m, list, MCI_YAML_LIST))
    return mci_yaml_complain(&m->yaml, list, "planes are a list: - {name: .., links: .., nodes: [\"*.0\"]}");
  for (uint32_t item = child_of(m, list); item != NONE; item = after(m, item)) {
    uint32_t found[MCI_COUNT(keys)];
    MCI_TRY(read_map(m, item, keys, MCI_COUNT(keys), found));
    for (uint32_t k = 0; k < MCI_COUNT(keys); k++)
      if (found[k] == NONE) return mci_yaml_complain(&m->yaml, item, "the plane lacks `%s`", keys[k]);
    if (is(m, found[2], MCI_YAML_LIST) && child_of(m, found[2]) == NONE)
      return mci_yaml_complain(&m->yaml, found[2], "the plane joins no nodes; write such as [\"*.0\"]");
    MCI_TRY(copy_word(m, ",plane=", found[0], "the name of a plane", ""));
    MCI_TRY(copy_link(m, classes, found[1], ":", ":"));
    MCI_TRY(copy_list(m, ":", found[2], "`nodes`", "+", "*"));
  }
  return meshcclSuccess;
}

/* ---- the whole ---- */

enum {
  FORMAT,
  SHAPE,
  SIDES,
  TOP_LINKS,
  CLASSES,
  LEVELS,
  WRAP,
  APART,
  DEAD,
  CUT,
  PLANES,
  PICK,
  MESSAGES,
  MAP,
  NUM_KEYS
};

static meshcclResult_t check_format(const machine* m, uint32_t format) {
  if (format == NONE)
    return mci_yaml_complain(&m->yaml, 0, "the first line of a machine is `meshccl-machine: 1`; this has none");
  if (!is(m, format, MCI_YAML_SCALAR) || strcmp(mci_yaml_text(&m->yaml, format), "1") != 0)
    return mci_yaml_complain(&m->yaml, format, "this library reads format 1; write `meshccl-machine: 1`");
  return meshcclSuccess;
}

static meshcclResult_t check_shape(const machine* m, uint32_t shape, bool* full) {
  if (shape == NONE) return mci_yaml_complain(&m->yaml, 0, "`shape` is missing: mesh, torus or full");
  MCI_TRY(check_word(m, shape, "`shape`", ""));
  const char* text = mci_yaml_text(&m->yaml, shape);
  *full = strcmp(text, "full") == 0;
  if (!*full && strcmp(text, "mesh") != 0 && strcmp(text, "torus") != 0)
    return mci_yaml_complain(&m->yaml, shape, "\"%.60s\" is no shape; write mesh, torus or full", text);
  return meshcclSuccess;
}

static meshcclResult_t check_parts(const machine* m, const uint32_t* keys) {
  if (keys[CLASSES] == NONE)
    return mci_yaml_complain(&m->yaml, 0,
                             "`classes` is missing: the links' figures, NAME: {rate: 50GB/s, delay: 500ns}");
  if (keys[SIDES] == NONE && keys[LEVELS] == NONE)
    return mci_yaml_complain(&m->yaml, 0, "`levels` or `sides` is missing: how large the machine is");
  if (keys[SIDES] != NONE && keys[TOP_LINKS] == NONE)
    return mci_yaml_complain(&m->yaml, keys[SIDES],
                             "`sides` needs `links` beside it: the class of the outermost links");
  if (keys[SIDES] == NONE && keys[TOP_LINKS] != NONE)
    return mci_yaml_complain(&m->yaml, keys[TOP_LINKS], "without `sides` every level names its links; remove this");
  return check_classes(m, keys[CLASSES]);
}

static meshcclResult_t add_shape(machine* m, const uint32_t* keys, const levels* l) {
  uint32_t links = l->n ? l->keys[0][LINKS] : keys[TOP_LINKS];
  MCI_TRY(copy_word(m, "", keys[SHAPE], "`shape`", ""));
  if (keys[SIDES] != NONE) {
    MCI_TRY(copy_word(m, ":", keys[SIDES], "`sides`", ""));
  } else {
    mci_str_add(&m->spec, ":");
    MCI_TRY(mark(m, l->keys[l->n - 1][OF], false));
    add_sides(m, l, l->n - 1);
  }
  return copy_link(m, keys[CLASSES], links, "@", ",");
}

static meshcclResult_t add_lists(machine* m, const uint32_t* keys) {
  MCI_TRY(copy_list(m, ",dead=", keys[DEAD], "`dead`", "+", ""));
  MCI_TRY(copy_list(m, ",cut=", keys[CUT], "`cut`", "+", ""));
  MCI_TRY(add_planes(m, keys[CLASSES], keys[PLANES]));
  MCI_TRY(copy_list(m, ",pick=", keys[PICK], "`pick`", "+", ""));
  if (keys[MESSAGES] != NONE) {
    MCI_TRY(check_word(m, keys[MESSAGES], "`messages`", ""));
    const char* text = mci_yaml_text(&m->yaml, keys[MESSAGES]);
    if (strcmp(text, "routed") != 0 && strcmp(text, "neighbours") != 0 && strcmp(text, "memory") != 0)
      return mci_yaml_complain(&m->yaml, keys[MESSAGES], "\"%.60s\" is not known; write routed, neighbours or memory",
                               text);
    MCI_TRY(copy_word(m, ",", keys[MESSAGES], "`messages`", ""));
  }
  return copy_list(m, ",map=", keys[MAP], "`map`", ".", "");
}

static meshcclResult_t read_machine(machine* m) {
  static const char* const names[] = {"meshccl-machine", "shape", "sides", "links",  "classes", "levels",   "wrap",
                                      "apart",           "dead",  "cut",   "planes", "pick",    "messages", "map"};
  uint32_t keys[NUM_KEYS];
  levels l = {0};
  bool full;
  MCI_TRY(read_map(m, 0, names, NUM_KEYS, keys));
  MCI_TRY(check_format(m, keys[FORMAT]));
  MCI_TRY(check_shape(m, keys[SHAPE], &full));
  MCI_TRY(check_parts(m, keys));
  if (keys[LEVELS] != NONE) MCI_TRY(read_levels(m, keys[LEVELS], keys[SIDES] != NONE, &l));
  if (keys[SIDES] == NONE) MCI_TRY(multiply(m, &l));
  if (full && l.ndims > 1)
    return mci_yaml_complain(&m->yaml, keys[SHAPE], "a full graph has no sides; write one number for each `of`");
  MCI_TRY(add_shape(m, keys, &l));
  if (keys[WRAP] != NONE) MCI_TRY(copy_word(m, ",wrap=", keys[WRAP], "`wrap`", ""));
  if (keys[APART] != NONE) MCI_TRY(copy_word(m, ",apart=", keys[APART], "`apart`", ""));
  MCI_TRY(add_levels(m, &l, keys[CLASSES], keys[TOP_LINKS], full));
  MCI_TRY(add_lists(m, keys));
  return mci_str_result(&m->spec);
}

meshcclResult_t mci_machine_parse(const char* text, size_t length, const char* name, mci_topo** out) {
  machine m = {.places = {.name = name}};
  MCI_TRY(mci_yaml_parse(text, length, name, &m.yaml));
  meshcclResult_t result = read_machine(&m);
  if (result == meshcclSuccess) result = mci_spec_parse(m.spec.text, &m.places, out);
  mci_yaml_fini(&m.yaml);
  mci_str_fini(&m.spec);
  mci_free(m.places.list);
  return result;
}
