/* meshccl tune: measures the links that the ranks of a job have, class by class, and writes the topology in use with
 * the measured figures as a machine file, for MESHCCL_TOPO and `meshccl plan`. Started like any program with ranks;
 * what is measured, and between whom, is in tune_measure.c. */
#include "tools/tune.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/topology.h"
#include "tools/tools.h"
#include "topo/machine.h"

#define MAX_TEAMS ((MCI_MAX_LEVELS + 1) * MCI_TUNE_TEAMS)
#define MAX_ROUNDS 1000

static const char usage[] =
    "usage: meshccl run -n N meshccl tune [-o FILE] [--rounds R]\n"
    "  measures delay, cost per message and rate of the links between the ranks, and prints the topology in use\n"
    "  (MESHCCL_TOPO, or what is found) with these figures as a machine file\n"
    "  -o FILE       writes it to FILE.yaml, which MESHCCL_TOPO and `meshccl plan` take\n"
    "  --rounds R    of which the medians count (default 7, 1 .. 1000)\n";

typedef struct {
  const char* path;
  uint32_t rounds;
  bool help;
} options;

typedef struct {
  const options* options;
  meshcclComm_t comm;
  int rank, nranks;
  char dump[32];    /* where the library writes the topology in use */
  char* unfinished; /* what is to become the output, rank 0 */
  FILE* file;
  mci_topo* topo;
  mci_tune_team teams[MAX_TEAMS];
  mci_tune_result results[MAX_TEAMS];
  uint32_t nteams;
} tune;

static meshcclResult_t parse_options(int argc, char** argv, options* out) {
  for (int i = 1; i < argc; i++) {
    const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
      out->help = true;
    } else if (strcmp(name, "-o") == 0) {
      if (!value) MCI_FAIL(meshcclInvalidArgument, "-o needs the name of a file such as links.yaml");
      out->path = argv[++i];
    } else if (strcmp(name, "--rounds") == 0) {
      char more;
      if (!value || sscanf(value, "%4u%c", &out->rounds, &more) != 1 || out->rounds < 1 || out->rounds > MAX_ROUNDS)
        MCI_FAIL(meshcclInvalidArgument, "--rounds needs a number from 1 to %d", MAX_ROUNDS);
      i++;
    } else {
      MCI_FAIL(meshcclInvalidArgument, "unexpected argument \"%s\"", name);
    }
  }
  const char* dot = out->path ? strrchr(out->path, '.') : NULL;
  if (out->path && (!dot || (strcmp(dot, ".yaml") != 0 && strcmp(dot, ".yml") != 0)))
    MCI_FAIL(meshcclInvalidArgument, "-o %s: call it %s.yaml, because that is how MESHCCL_TOPO knows a file", out->path,
             out->path);
  return meshcclSuccess;
}

/* ---- before measuring ---- */

/* The library writes the topology of the communicator to a file of rank 0. */
static meshcclResult_t join(tune* t) {
  int fd = -1;
  if (!mci_env("MESHCCL_TOPO_DUMP")) { /* variables are read once, later */
    snprintf(t->dump, sizeof t->dump, "/tmp/meshccl-tune-XXXXXX");
    fd = mkstemp(t->dump);
    if (fd < 0) MCI_FAIL(meshcclSystemError, "%s: %s", t->dump, strerror(errno));
    close(fd);
    setenv("MESHCCL_TOPO_DUMP", t->dump, 1);
  }
  MCI_TRY(meshcclCommInitEnv(&t->comm, NULL));
  MCI_TRY(meshcclCommUserRank(t->comm, &t->rank));
  return meshcclCommCount(t->comm, &t->nranks);
}

static meshcclResult_t read_dump(tune* t, mci_str* line) {
  const char* path = t->dump[0] ? t->dump : mci_env("MESHCCL_TOPO_DUMP");
  FILE* file = fopen(path, "re");
  if (!file) MCI_FAIL(meshcclSystemError, "%s, where the topology in use should be: %s", path, strerror(errno));
  mci_str text = {0};
  char piece[4096];
  for (size_t n; (n = fread(piece, 1, sizeof piece, file)) > 0;) mci_str_add(&text, "%.*s", (int)n, piece);
  fclose(file);
  meshcclResult_t result = mci_str_result(&text);
  if (result == meshcclSuccess) result = mci_machine_parse(text.text ? text.text : "", text.length, path, &t->topo);
  if (result == meshcclSuccess) result = mci_topo_print(t->topo, line);
  mci_str_fini(&text);
  return result;
}

/* An existing file is replaced at the end only: what is written meanwhile has a name beside it. */
static meshcclResult_t open_output(tune* t) {
  if (!t->options->path) return meshcclSuccess;
  mci_str name = {0};
  mci_str_add(&name, "%s.%ld", t->options->path, (long)getpid());
  MCI_TRY(mci_str_result(&name));
  t->unfinished = name.text;
  t->file = fopen(t->unfinished, "wxe");
  if (!t->file) MCI_FAIL(meshcclInvalidArgument, "%s cannot be written: %s", t->options->path, strerror(errno));
  return meshcclSuccess;
}

static meshcclResult_t prepare(tune* t, mci_str* line) {
  if (t->nranks < 2)
    MCI_FAIL(meshcclInvalidUsage, "a single rank has no links; start several: meshccl run -n 4 meshccl tune");
  MCI_TRY(open_output(t));
  MCI_TRY(read_dump(t, line));
  return meshcclSuccess;
}

/* Rank 0 prepares and tells the others: how long the topology's text is, 0: it failed. */
static meshcclResult_t agree(tune* t) {
  mci_str line = {0};
  meshcclResult_t result = t->rank == 0 ? prepare(t, &line) : meshcclSuccess;
  uint64_t bytes = result == meshcclSuccess ? line.length : 0;
  char* text = NULL;
  meshcclResult_t told = meshcclBroadcast(&bytes, &bytes, 1, meshcclUint64, 0, t->comm, NULL);
  if (result == meshcclSuccess) result = told;
  if (result != meshcclSuccess || bytes == 0) goto done;
  text = mci_alloc(bytes + 1);
  if (!text) {
    result = mci_oom(bytes + 1);
    goto done;
  }
  if (t->rank == 0) memcpy(text, line.text, bytes);
  MCI_TRY_OR(meshcclBroadcast(text, text, bytes, meshcclUint8, 0, t->comm, NULL), done);
  if (t->rank != 0) MCI_TRY_OR(mci_topo_parse(text, &t->topo), done);
done:
  mci_free(text);
  mci_str_fini(&line);
  return result;
}

/* ---- what was measured ---- */
typedef struct {
  double median, least, most;
} spread;

static int ascending(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static spread spread_of(double* values, uint32_t n) {
  qsort(values, n, sizeof *values, ascending);
  return (spread){values[n / 2], values[0], values[n - 1]};
}

/* Three digits are more than a repetition would confirm. */
static uint64_t rounded(double value, uint64_t least) {
  uint64_t place = 1, all = (uint64_t)MCI_MAX(value, (double)least);
  while (all / place >= 1000) place *= 10;
  return MCI_MAX((all + place / 2) / place * place, least);
}

static void add_spread(mci_str* out, const char* name, spread s, double unit, const char* unit_name) {
  mci_str_add(out, "%s %.3g %s (%.3g .. %.3g)", name, s.median / unit, unit_name, s.least / unit, s.most / unit);
}

static void add_place(const tune* t, uint32_t c, mci_str* out) {
  if (c > 0) {
    mci_str_add(out, "# between groups of level %s: ", mci_topo_level_name(t->topo, c - 1));
  } else {
    mci_str_add(out, mci_topo_nlevels(t->topo) ? "# inside level %s: " : "# all links%s: ",
                mci_topo_nlevels(t->topo) ? mci_topo_level_name(t->topo, 0) : "");
  }
}

/* The figures of a class, and a line of comment on how they came about. False: nobody has such a link. */
static bool weigh_class(const tune* t, uint32_t c, mci_link* link, mci_str* out) {
  double delay[MCI_TUNE_TEAMS], cost[MCI_TUNE_TEAMS], one[MCI_TUNE_TEAMS], both[MCI_TUNE_TEAMS];
  uint32_t n = 0, pairs = 0;
  for (uint32_t i = 0; i < t->nteams; i++) {
    if (t->teams[i].link_class != c) continue;
    mci_tune_fit(&t->results[i], &delay[n], &cost[n]);
    one[n] = t->results[i].one_way;
    both[n++] = t->results[i].both_ways;
    pairs += t->teams[i].npairs;
  }
  add_place(t, c, out);
  if (n == 0) {
    mci_str_add(out, "no two ranks have such a link, not measured\n");
    return false;
  }
  spread d = spread_of(delay, n), m = spread_of(cost, n), w = spread_of(one, n), r = spread_of(both, n);
  add_spread(out, "delay", d, 1e-6, "us");
  add_spread(out, ", cost per message", m, 1e-6, "us");
  add_spread(out, ", rate both ways", r, 1e9, "GB/s");
  add_spread(out, ", one way", w, 1e9, "GB/s");
  mci_str_add(out, ", %u pair%s in %u turn%s\n", pairs, pairs > 1 ? "s" : "", n, n > 1 ? "s" : "");
  *link = (mci_link){rounded(r.median, 1), rounded(d.median * 1e12, 1000), rounded(m.median * 1e12, 0)};
  return true;
}

static meshcclResult_t print(tune* t, mci_str* out) {
  mci_str_add(out,
              "# Measured by meshccl tune between %d ranks: medians of %u rounds, and the least and most of several\n"
              "# pairs. The rate is that of each direction while both are in use.\n",
              t->nranks, t->options->rounds);
  mci_link before = mci_topo_class(t->topo, 0), now = before;
  for (uint32_t c = 0; c < mci_topo_nclasses(t->topo); c++) {
    mci_link described = mci_topo_class(t->topo, c), link = described;
    bool same = memcmp(&described, &before, sizeof before) == 0;
    if (!weigh_class(t, c, &link, out) && same) link = now; /* as the class inside, as before */
    mci_topo_set_class(t->topo, c, link);
    before = described;
    now = link;
  }
  if (mci_topo_nplanes(t->topo)) mci_str_add(out, "# planes are as described, not measured\n");
  MCI_TRY(mci_machine_print(t->topo, out));
  return mci_str_result(out);
}

static meshcclResult_t finish(tune* t) {
  mci_str out = {0};
  meshcclResult_t result = print(t, &out);
  if (result == meshcclSuccess && !t->file) fputs(out.text, stdout);
  if (result == meshcclSuccess && t->file) {
    bool written = fputs(out.text, t->file) >= 0;
    written = fclose(t->file) == 0 && written;
    t->file = NULL;
    if (!written || rename(t->unfinished, t->options->path) != 0)
      result = mci_fail(meshcclSystemError, "%s: %s", t->options->path, strerror(errno));
  }
  mci_str_fini(&out);
  return result;
}

static meshcclResult_t run(tune* t) {
  MCI_TRY(join(t));
  MCI_TRY(agree(t));
  if (!t->topo) return meshcclRemoteError; /* rank 0 says why */
  t->nteams = mci_tune_teams(t->topo, t->teams);
  MCI_TRY(mci_tune_measure(t->comm, t->teams, t->nteams, t->options->rounds, t->results));
  return t->rank == 0 ? finish(t) : meshcclSuccess;
}

static void release(tune* t) {
  if (t->file) fclose(t->file);
  if (t->unfinished) unlink(t->unfinished); /* gone when it became the output */
  if (t->dump[0]) unlink(t->dump);
  mci_free(t->unfinished);
  mci_topo_destroy(t->topo);
  meshcclCommDestroy(t->comm);
}

int mci_tool_tune(int argc, char** argv) {
  options o = {.rounds = 7};
  if (parse_options(argc, argv, &o) != meshcclSuccess) {
    fprintf(stderr, "meshccl tune: %s\n%s", mci_error_last(), usage);
    return 2;
  }
  if (o.help) {
    fputs(usage, stdout);
    return 0;
  }
  tune t = {.options = &o};
  meshcclResult_t result = run(&t);
  if (result != meshcclSuccess && (t.rank == 0 || t.topo)) fprintf(stderr, "meshccl tune: %s\n", mci_error_last());
  release(&t);
  return result == meshcclSuccess ? 0 : 1;
}
