/* The reader of specs, for spec.c and the files that read single options: spec_level.c and spec_plane.c. */
#ifndef MCI_SPEC_H
#define MCI_SPEC_H

#include "topo/grid.h"

typedef enum {
  MCI_OPT_RATE,
  MCI_OPT_TIME,
  MCI_OPT_COST,
  MCI_OPT_WRAP,
  MCI_OPT_DEAD,
  MCI_OPT_CUT,
  MCI_OPT_PICK,
  MCI_OPT_MAP,
  MCI_OPT_MODE,
  MCI_OPT_LEVEL,
  MCI_OPT_APART,
  MCI_OPT_PLANE,
  MCI_NUM_OPTS
} mci_spec_option;

/* A piece of the text. */
typedef struct {
  const char *at, *end;
} mci_piece;

/* Where pieces of a spec that a machine file was turned into came from. Ascending. */
typedef struct {
  size_t at; /* offset in the spec; holds up to the next place */
  uint32_t line, column;
  bool copied; /* character by character, else put together */
} mci_place;

typedef struct {
  const char* name;
  mci_place* list;
  uint32_t n, cap;
} mci_places;

typedef struct {
  const char* spec;
  const mci_places* places; /* NULL: the text is what the user wrote */
  mci_topo* topo;
  mci_piece given[MCI_NUM_OPTS];   /* where each option stood; at == NULL: not given */
  mci_piece level[MCI_MAX_LEVELS]; /* what follows level=: read when sides and links are known */
  mci_piece plane[MCI_MAX_PLANES];
  uint32_t nlevels, nplanes;
  uint32_t* map;
  uint32_t nmap, cap_map;
  uint8_t* seen; /* bit per node (dead, pick) or per link (cut) of the list being read */
} mci_spec;

/* Fails with the whole text, the offending piece, its place and the rest of the sentence. */
meshcclResult_t mci_spec_complain(const mci_spec* p, mci_piece where, const char* format, ...) MCI_PRINTF(3, 4);
#define COMPLAIN(p, where, ...) return mci_spec_complain((p), (where), __VA_ARGS__)

/* mci_topo_parse, with mistakes reported at their places. */
meshcclResult_t mci_spec_parse(const char* spec, const mci_places* places, mci_topo** out);
bool mci_spec_equals(mci_piece s, const char* word);
/* From `at` to the first of `stops`, or to the end. */
mci_piece mci_spec_until(const char* at, const char* end, const char* stops);
bool mci_spec_number(mci_piece s, uint32_t* out);
/* A name of a level: letters, digits, '-' and '_', a letter first. */
bool mci_spec_is_name(mci_piece s);
/* Rate, delay and cost per message among the fields of a level: `text` starts behind a ':' and goes on to the end. */
meshcclResult_t mci_spec_link(const mci_spec* p, mci_piece text, mci_link* link);

/* Letters of dimensions, "xz": sets them in `out`, where none of them may be set. */
meshcclResult_t mci_spec_dims(const mci_spec* p, mci_piece value, bool out[MCI_MAX_DIMS]);

meshcclResult_t mci_spec_levels(mci_spec* p);
meshcclResult_t mci_spec_apart(mci_spec* p, mci_piece value);
meshcclResult_t mci_spec_planes(mci_spec* p);
#endif
