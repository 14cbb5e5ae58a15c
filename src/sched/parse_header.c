/* Parses what stands before the first rank: collective, ranks, layout, digest. */
#include <string.h>

#include "sched/parse.h"

static meshcclResult_t header_collective(mci_parser* p) {
  char name[32];
  mci_scan start = p->scan;
  MCI_TRY(mci_scan_name(&p->scan, "the collective", name, sizeof name));
  if (mci_coll_parse(name, &p->coll) != meshcclSuccess) {
    char cause[400];
    memcpy(cause, mci_error_last(), sizeof cause - 1);
    cause[sizeof cause - 1] = 0;
    mci_scan_blanks(&start);
    return mci_scan_fail(&start, "%s", cause);
  }
  p->have_coll = true;
  return meshcclSuccess;
}

static meshcclResult_t header_algorithm(mci_parser* p) {
  mci_scan* s = &p->scan;
  mci_scan_blanks(s);
  const char* begin = s->at;
  const char* last = begin;
  for (; s->at < s->end && *s->at != '\n' && *s->at != '#'; s->at++)
    if (*s->at != ' ' && *s->at != '\t' && *s->at != '\r') last = s->at + 1;
  size_t length = (size_t)(last - begin);
  if (length < sizeof p->algorithm) {
    memcpy(p->algorithm, begin, length);
    p->algorithm[length] = 0;
  }
  if (length >= sizeof p->algorithm || strlen(p->algorithm) != length || !mci_text_algorithm_ok(p->algorithm))
    return mci_scan_fail(s, "the algorithm needs a name of 1 to %zu printable characters", sizeof p->algorithm - 1);
  p->have_algorithm = true;
  return meshcclSuccess;
}

/* n numbers; with `runs`, "7*4" stands for four of them. */
static meshcclResult_t list(mci_parser* p, const char* what, uint32_t n, bool runs, uint32_t high, uint32_t** out) {
  mci_scan* s = &p->scan;
  uint32_t* values = NULL;
  uint32_t cap = 0, value;
  meshcclResult_t result = meshcclSuccess;
  for (uint32_t i = 0; i < n && result == meshcclSuccess;) {
    uint64_t run = 1;
    result = mci_scan_u32(s, what, 0, high, &value);
    if (result == meshcclSuccess && runs && mci_scan_char(s, '*'))
      result = mci_scan_number(s, "how many numbers are alike", 1, n - i, &run);
    if (result == meshcclSuccess) result = mci_grow(&values, sizeof *values, &cap, i + run);
    for (; run > 0 && result == meshcclSuccess; run--) values[i++] = value;
  }
  if (result == meshcclSuccess) {
    *out = values;
  } else {
    mci_free(values);
  }
  return result;
}

static meshcclResult_t header_layout(mci_parser* p) {
  mci_scan* s = &p->scan;
  mci_scan_blanks(s);
  if (!p->have_coll) return mci_scan_fail(s, "the collective must be named before the layout");
  bool block_major = mci_coll_block_major(p->coll);
  if (!mci_scan_word(s, block_major ? "block-major" : "part-major"))
    return mci_scan_fail(s, "the layout of %s is %s", mci_coll_name(p->coll),
                         block_major ? "block-major" : "part-major");
  if (!mci_scan_word(s, "blocks")) return mci_scan_fail(s, "\"blocks\" and their number are missing here");
  MCI_TRY(mci_scan_u32(s, "the number of blocks", 1, INT32_MAX, &p->nblocks));
  if (!mci_scan_word(s, "parts")) return mci_scan_fail(s, "\"parts\" and their number are missing here");
  MCI_TRY(mci_scan_u32(s, "the number of parts", 1, MCI_TEXT_MAX_PARTS, &p->nparts));
  if (mci_scan_word(s, "weights")) {
    MCI_TRY(list(p, "a weight", p->nparts, true, UINT32_MAX, &p->weights));
    uint64_t sum = 0;
    for (uint32_t i = 0; i < p->nparts; i++) sum += p->weights[i];
    if (sum == 0 || sum > UINT32_MAX) return mci_scan_fail(s, "the weights must add up to 1 .. 4294967295");
  }
  p->have_layout = true;
  return meshcclSuccess;
}

static meshcclResult_t header_bits(mci_parser* p) {
  char* bits = p->schedule->bits;
  MCI_TRY(mci_scan_name(&p->scan, "the digest", bits, sizeof p->schedule->bits));
  if (strlen(bits) != 32 || strspn(bits, "0123456789abcdef") != 32)
    return mci_scan_fail(&p->scan,
                         "the digest needs 32 hexadecimal digits in lower case; remove the line to do without");
  p->have_bits = true;
  return meshcclSuccess;
}

static meshcclResult_t header_line(mci_parser* p) {
  mci_scan* s = &p->scan;
  if (!p->have_coll && mci_scan_word(s, "collective")) return header_collective(p);
  if (!p->have_algorithm && mci_scan_word(s, "algorithm")) return header_algorithm(p);
  if (!p->have_ranks && mci_scan_word(s, "ranks")) {
    p->have_ranks = true;
    return mci_scan_u32(s, "the number of ranks", 1, MCI_TEXT_MAX_RANKS, &p->nranks);
  }
  if (!p->have_root && mci_scan_word(s, "root")) {
    p->have_root = true;
    return mci_scan_u32(s, "the root", 0, MCI_TEXT_MAX_RANKS - 1, &p->root);
  }
  if (!p->have_layout && mci_scan_word(s, "layout")) return header_layout(p);
  if (p->have_layout && !p->have_order && mci_scan_word(s, "order")) {
    p->have_order = true;
    return list(p, "a place", p->nblocks, false, INT32_MAX, &p->order);
  }
  if (!p->have_bits && mci_scan_word(s, "bits")) return header_bits(p);
  return mci_scan_fail(
      s, "expected collective, algorithm, ranks, root, layout, order (after layout) or bits, each once, then rank 0");
}

meshcclResult_t mci_parse_header(mci_parser* p) {
  mci_scan* s = &p->scan;
  if (mci_scan_line_done(s)) MCI_TRY(mci_scan_next_line(s));
  uint32_t version = 0;
  if (!mci_scan_word(s, MCI_TEXT_MAGIC))
    return mci_scan_fail(s, "this is not a schedule: the first line must be \"%s %d\"", MCI_TEXT_MAGIC,
                         MCI_TEXT_VERSION);
  MCI_TRY(mci_scan_u32(s, "the version of the format", MCI_TEXT_VERSION, MCI_TEXT_VERSION, &version));
  MCI_TRY(mci_scan_next_line(s));
  for (mci_scan ahead = *s; !mci_scan_text_done(s) && !mci_scan_word(&ahead, "rank"); ahead = *s) {
    MCI_TRY(header_line(p));
    MCI_TRY(mci_scan_next_line(s));
  }
  const char* missing = !p->have_coll        ? "collective"
                        : !p->have_algorithm ? "algorithm"
                        : !p->have_ranks     ? "ranks"
                        : !p->have_layout    ? "layout"
                                             : NULL;
  if (missing) return mci_scan_fail(s, "the line \"%s ...\" is missing before the first rank", missing);
  bool rooted = mci_coll_rooted(p->coll);
  if (rooted && !p->have_root) return mci_scan_fail(s, "%s needs a line \"root RANK\"", mci_coll_name(p->coll));
  if (!rooted && p->have_root) return mci_scan_fail(s, "%s has no root; remove the line", mci_coll_name(p->coll));
  if (p->root >= p->nranks) return mci_scan_fail(s, "root %u is not below the number of ranks, %u", p->root, p->nranks);
  uint64_t bytes = (uint64_t)p->nranks * sizeof(uint32_t) * ((uint64_t)p->nparts + (p->order ? p->nblocks : 0));
  if (bytes > MCI_TEXT_MAX_LAYOUT_BYTES)
    return mci_scan_fail(s, "the layout of all ranks would take %llu bytes, too much", (unsigned long long)bytes);
  return meshcclSuccess;
}
