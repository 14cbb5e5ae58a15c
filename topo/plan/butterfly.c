/* Who exchanges with whom, and labels; see butterfly.h. */
#include "topo/plan/butterfly.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"

static bool power_of_two(uint32_t n) { return (n & (n - 1)) == 0; }

static uint32_t bits_of(uint32_t n) {
  uint32_t bits = 0;
  while (n >> 1 >> bits) bits++;
  return bits;
}

static const char* refuse_sides(const mci_topo* topo, bool swing, char* buffer, size_t size) {
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) {
    uint32_t n = mci_topo_side(topo, d);
    if (!power_of_two(n)) {
      snprintf(buffer, size, "ranks pair up where all sides are powers of two, and dimension %u has %u", d, n);
      return buffer;
    }
    if (!swing || n <= 2 || mci_topo_wraps(topo, d)) continue;
    snprintf(buffer, size, "dimension %u is a line, and every other message would go round a ring", d);
    return buffer;
  }
  return NULL;
}

const char* mci_butterfly_refuse(const mci_topo* topo, bool swing, bool folds_in, char* buffer, size_t size) {
  uint32_t n = mci_topo_nranks(topo);
  if (n == 1) return "a single rank has no partners";
  if (mci_topo_is_full(topo)) {
    if (swing) return "the ranks are joined pairwise, not as rings";
    if (folds_in || power_of_two(n)) return NULL;
    snprintf(buffer, size, "ranks pair up where their number is a power of two, and there are %u", n);
    return buffer;
  }
  if (!mci_topo_is_regular(topo)) return "the grid has holes or not all of it takes part";
  if (mci_topo_nplanes(topo)) return "routes through planes are not counted here";
  if (!mci_topo_routed(topo)) return "partners are not neighbours, and only neighbours may exchange messages";
  return refuse_sides(topo, swing, buffer, size);
}

void mci_butterfly_of(const mci_topo* topo, bool swing, mci_butterfly* out) {
  *out = (mci_butterfly){.topo = topo, .swing = swing};
  uint32_t n = mci_topo_nranks(topo);
  if (mci_topo_is_full(topo)) {
    out->naxes = 1;
    out->bits[0] = out->nsteps = bits_of(n);
    out->extra = n - (1u << out->nsteps);
    return;
  }
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) {
    if (mci_topo_side(topo, d) == 1) continue;
    out->dim[out->naxes] = d;
    out->bits[out->naxes] = bits_of(mci_topo_side(topo, d));
    out->ring[out->naxes] = mci_topo_wraps(topo, d);
    out->nsteps += out->bits[out->naxes++];
  }
}

bool mci_butterfly_mirrored(const mci_butterfly* b, uint32_t copy) { return copy >= b->naxes; }

/* Round after round one bit of every axis that has one left, beginning with another axis in every copy. */
void mci_butterfly_steps(const mci_butterfly* b, uint32_t copy, mci_butterfly_step out[MCI_BUTTERFLY_MAX_STEPS]) {
  uint32_t n = 0;
  for (uint32_t bit = 0; n < b->nsteps; bit++) {
    for (uint32_t k = 0; k < b->naxes; k++) {
      uint32_t axis = (copy + k) % b->naxes;
      if (bit < b->bits[axis]) out[n++] = (mci_butterfly_step){(uint8_t)axis, (uint8_t)bit};
    }
  }
}

/* rho(bit) = 1 - 2 + 4 - .. */
static int64_t rho(uint32_t bit) {
  int64_t power = INT64_C(1) << (bit + 1);
  return (1 - (bit % 2 ? power : -power)) / 3;
}

int64_t mci_butterfly_distance(const mci_butterfly* b, mci_butterfly_step step) {
  return b->swing ? rho(step.bit) : INT64_C(1) << step.bit;
}

bool mci_butterfly_place(const mci_butterfly* b, uint32_t rank, uint32_t at[MCI_MAX_DIMS]) {
  memset(at, 0, MCI_MAX_DIMS * sizeof *at);
  if (mci_topo_is_full(b->topo)) {
    if (rank < 2 * b->extra && rank % 2) return false;
    at[0] = rank < 2 * b->extra ? rank / 2 : rank - b->extra;
    return true;
  }
  uint32_t coords[MCI_MAX_DIMS] = {0};
  mci_topo_coords(b->topo, rank, coords);
  for (uint32_t a = 0; a < b->naxes; a++) at[a] = coords[b->dim[a]];
  return true;
}

uint32_t mci_butterfly_rank(const mci_butterfly* b, const uint32_t at[MCI_MAX_DIMS]) {
  if (mci_topo_is_full(b->topo)) return at[0] < b->extra ? 2 * at[0] : at[0] + b->extra;
  uint32_t coords[MCI_MAX_DIMS] = {0};
  for (uint32_t a = 0; a < b->naxes; a++) coords[b->dim[a]] = at[a];
  return (uint32_t)mci_topo_rank_at(b->topo, coords);
}

uint32_t mci_butterfly_partner(const mci_butterfly* b, const uint32_t at[MCI_MAX_DIMS], mci_butterfly_step step,
                               bool mirrored) {
  uint32_t moved[MCI_MAX_DIMS], x = at[step.axis], n = 1u << b->bits[step.axis];
  bool back = (b->swing ? x & 1 : x >> step.bit & 1) != mirrored;
  int64_t distance = mci_butterfly_distance(b, step);
  memcpy(moved, at, sizeof moved);
  moved[step.axis] = (uint32_t)(x + (back ? -distance : distance)) & (n - 1);
  return mci_butterfly_rank(b, moved);
}

uint32_t mci_butterfly_label_bit(const mci_butterfly* b, const uint32_t at[MCI_MAX_DIMS], mci_butterfly_step step,
                                 bool mirrored) {
  uint32_t x = at[step.axis];
  if (!b->swing) return x >> step.bit & 1;
  if (step.bit + 1u == b->bits[step.axis]) return x & 1;
  int64_t next = rho(step.bit + 1u);
  if (x & 1) x = (uint32_t)(x + (mirrored ? next : -next));
  return x >> (step.bit + 1) & 1;
}
