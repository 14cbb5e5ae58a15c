/* meshccl plan SPEC COLLECTIVE SIZE: the candidates for a collective, best first, with predicted time and bound; on
 * request one rank's program, the proof of all ranks' programs, and simulated times (plan_simulate.c). Plans one rank
 * in memory of that rank only; proof and simulation need all of them. */
#include "topo/plan/plan.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "boot/topology.h"
#include "sched/sched.h"
#include "tools/plan_simulate.h"
#include "tools/tools.h"
#include "topo/bounds.h"

#define MAX_PROVED_RANKS 4096

static const char usage[] =
    "usage: meshccl plan SPEC COLLECTIVE SIZE [options]\n"
    "  SPEC        such as torus:4x4 or mesh:5x5@dead=2.2\n"
    "  COLLECTIVE  all_reduce all_gather reduce_scatter broadcast reduce all_to_all gather scatter barrier\n"
    "  SIZE        bytes of the whole vector, such as 64K or 1G\n"
    "What MESHCCL_SLICE and MESHCCL_ACCUMULATE say holds here, too; the latter as for 16- and 8-bit floats.\n"
    "  --root R    root of a rooted collective (default 0)\n"
    "  --algo NAME takes this algorithm instead of the fastest\n"
    "  --rank R    prints the program of rank R\n"
    "  --verify    proves the programs of all ranks, in place and out of place\n"
    "  --json      prints JSON\n";

typedef struct {
  const char *spec, *coll, *size, *algo;
  bool json, verify, has_rank;
  uint32_t rank, root;
  mci_tool_simulation simulation;
} options;

typedef struct {
  const options* options;
  mci_topo* topo;
  mci_request request;
  mci_bound bound;
  mci_candidate candidates[MCI_MAX_CANDIDATES];
  uint32_t ncandidates;
  mci_candidate choice;
  mci_tool_simulated simulated[MCI_MAX_CANDIDATES];
  mci_str topo_text, program;
  mci_verify_report proofs[2]; /* out of place, in place */
} answer;

static meshcclResult_t parse_number(const char* name, const char* text, uint32_t* out) {
  if (!text || !*text) MCI_FAIL(meshcclInvalidArgument, "%s needs a rank", name);
  uint64_t value = 0;
  for (const char* c = text; *c; c++) {
    if (*c < '0' || *c > '9' || value > INT32_MAX) MCI_FAIL(meshcclInvalidArgument, "%s %s: not a rank", name, text);
    value = value * 10 + (uint64_t)(*c - '0');
  }
  *out = (uint32_t)MCI_MIN(value, UINT32_MAX);
  return meshcclSuccess;
}

static meshcclResult_t parse_option(int argc, char** argv, int* i, options* out) {
  const char *name = argv[*i], *value = *i + 1 < argc ? argv[*i + 1] : NULL;
  if (strcmp(name, "--json") == 0) {
    out->json = true;
  } else if (strcmp(name, "--verify") == 0) {
    out->verify = true;
  } else if (strcmp(name, "--rank") == 0) {
    MCI_TRY(parse_number(name, value, &out->rank));
    out->has_rank = true;
    ++*i;
  } else if (strcmp(name, "--root") == 0) {
    MCI_TRY(parse_number(name, value, &out->root));
    ++*i;
  } else if (strcmp(name, "--algo") == 0) {
    if (!value) MCI_FAIL(meshcclInvalidArgument, "--algo needs a name");
    out->algo = value;
    ++*i;
  } else {
    bool known;
    MCI_TRY(mci_tool_simulate_option(argc, argv, i, &out->simulation, &known));
    if (!known) MCI_FAIL(meshcclInvalidArgument, "unknown option %s", name);
  }
  return meshcclSuccess;
}

static meshcclResult_t parse_options(int argc, char** argv, options* out) {
  const char** places[] = {&out->spec, &out->coll, &out->size};
  uint32_t given = 0;
  for (int i = 1; i < argc; i++) {
    if (argv[i][0] == '-') {
      MCI_TRY(parse_option(argc, argv, &i, out));
    } else if (given < MCI_COUNT(places)) {
      *places[given++] = argv[i];
    } else {
      MCI_FAIL(meshcclInvalidArgument, "%s is one argument too many", argv[i]);
    }
  }
  if (given < MCI_COUNT(places)) MCI_FAIL(meshcclInvalidArgument, "a topology, a collective and a size are needed");
  return meshcclSuccess;
}

/* ---- finding the answer ---- */
static meshcclResult_t prove(answer* a) {
  uint32_t n = mci_topo_nranks(a->topo);
  if (n > MAX_PROVED_RANKS)
    MCI_FAIL(meshcclInvalidArgument, "--verify builds the programs of all %u ranks; %d at most", n, MAX_PROVED_RANKS);
  mci_schedule* schedule;
  MCI_TRY(mci_plan_build_all(a->topo, &a->request, &a->choice, &schedule));
  meshcclResult_t result = meshcclSuccess;
  for (int in_place = 0; in_place < 2 && result == meshcclSuccess; in_place++) {
    mci_verify_options how = {.in_place = in_place};
    result = mci_schedule_verify(schedule, &how, &a->proofs[in_place]);
  }
  mci_schedule_destroy(schedule);
  return result;
}

static meshcclResult_t print_program(answer* a) {
  uint32_t n = mci_topo_nranks(a->topo), rank = a->options->rank;
  if (rank >= n) MCI_FAIL(meshcclInvalidArgument, "--rank %u: the ranks are 0 .. %u", rank, n - 1);
  mci_program* program;
  MCI_TRY(mci_plan_build(a->topo, &a->request, &a->choice, rank, &program));
  meshcclResult_t result = mci_program_print(program, &a->program);
  mci_program_destroy(program);
  return result;
}

static meshcclResult_t find(answer* a) {
  const options* o = a->options;
  MCI_TRY(mci_topology_load(o->spec, &a->topo));
  MCI_TRY(mci_topo_print(a->topo, &a->topo_text));
  mci_coll coll;
  uint64_t bytes;
  MCI_TRY(mci_coll_parse(o->coll, &coll));
  MCI_TRY(mci_parse_size(o->size, "SIZE", &bytes));
  a->request = mci_plan_request(coll, bytes, mci_topo_nranks(a->topo), true);
  a->request.root = o->root;
  if (o->simulation.how.message_bytes) a->request.message_bytes = o->simulation.how.message_bytes;
  MCI_TRY(mci_plan_candidates(a->topo, &a->request, a->candidates, &a->ncandidates));
  MCI_TRY(mci_bound_of(a->topo, a->request.coll, a->request.bytes, o->root, &a->bound));
  MCI_TRY(mci_plan_choose(a->topo, &a->request, o->algo, &a->choice));
  if (o->has_rank) MCI_TRY(print_program(a));
  if (o->verify) MCI_TRY(prove(a));
  if (o->simulation.most)
    MCI_TRY(
        mci_tool_simulate(a->topo, &a->request, a->candidates, a->ncandidates, o->algo, &o->simulation, a->simulated));
  return meshcclSuccess;
}

/* ---- printing it ---- */
static double microseconds(uint64_t ps) { return (double)ps * 1e-6; }

static double share(const answer* a, const mci_candidate* c) {
  return c->cost.cost_ps ? 100 * (double)a->bound.bound_ps / (double)c->cost.cost_ps : 100;
}

static void text_row(const answer* a, uint32_t k, mci_str* out) {
  const mci_candidate* c = &a->candidates[k];
  const mci_tool_simulated* simulated = &a->simulated[k];
  if (!c->applies) {
    mci_str_add(out, "  %-18s  %s\n", c->family->name, c->reason);
    return;
  }
  mci_str_add(out, "%c %-18s %14.3f %14.3f %10.1f ", c->family == a->choice.family ? '*' : ' ', c->family->name,
              microseconds(c->cost.cost_ps), microseconds(a->bound.bound_ps), share(a, c));
  if (simulated->done) {
    mci_str_add(out, "%14.3f %10.1f ", microseconds(simulated->report.total_ps), 100 * simulated->report.share);
  } else if (a->options->simulation.most) {
    mci_str_add(out, "%14s %10s ", "-", "-");
  }
  mci_str_add(out, "%8u %8u %6u %9.4g  %s\n", c->cost.steps, c->cost.channels, c->cost.chunks, c->cost.load,
              c->family->summary);
}

static void text(const answer* a, mci_str* out) {
  mci_str_add(out, "%s of %llu bytes on %s, %u ranks\n", mci_coll_name(a->request.coll),
              (unsigned long long)a->request.bytes, a->topo_text.text, mci_topo_nranks(a->topo));
  mci_str_add(out, "  %-18s %14s %14s %10s ", "algorithm", "predicted us", "bound us", "% of bound");
  if (a->options->simulation.most) mci_str_add(out, "%14s %10s ", "simulated us", "% of bound");
  mci_str_add(out, "%8s %8s %6s %9s\n", "steps", "channels", "chunks", "load");
  for (uint32_t i = 0; i < a->ncandidates; i++) text_row(a, i, out);
  for (uint32_t i = 0; i < a->ncandidates; i++)
    if (a->simulated[i].done) mci_tool_simulate_text(a->candidates[i].family->name, &a->simulated[i], out);
  if (a->options->has_rank) mci_str_add(out, "\n%s", a->program.text);
  if (!a->options->verify) return;
  for (int in_place = 0; in_place < 2; in_place++) {
    const mci_verify_report* proof = &a->proofs[in_place];
    mci_str_add(out, "%sproved %s: %llu steps, %llu messages, longest chain %llu, bits %s\n", in_place ? "" : "\n",
                in_place ? "in place" : "out of place", (unsigned long long)proof->steps,
                (unsigned long long)proof->messages, (unsigned long long)proof->depth, proof->bits);
  }
}

static void json_row(const answer* a, uint32_t k, mci_str* out) {
  const mci_candidate* c = &a->candidates[k];
  mci_str_add(out, "{\"algorithm\": ");
  mci_str_json(out, c->family->name);
  mci_str_add(out, ", \"applies\": %s", c->applies ? "true" : "false");
  if (a->simulated[k].done) {
    mci_str_add(out, ", \"simulated_us\": %.6f", microseconds(a->simulated[k].report.total_ps));
  } else if (a->options->simulation.most) {
    mci_str_add(out, ", \"simulated_us\": null");
  }
  if (c->applies) {
    mci_str_add(out, ", \"predicted_us\": %.6f, \"bound_us\": %.6f, \"steps\": %u, \"channels\": %u, \"chunks\": %u",
                microseconds(c->cost.cost_ps), microseconds(a->bound.bound_ps), c->cost.steps, c->cost.channels,
                c->cost.chunks);
    mci_str_add(out, ", \"load\": %.6g, \"chosen\": %s, \"reason\": null}", c->cost.load,
                c->family == a->choice.family ? "true" : "false");
    return;
  }
  mci_str_add(out,
              ", \"predicted_us\": null, \"bound_us\": %.6f, \"steps\": null, \"channels\": null, \"chunks\": null",
              microseconds(a->bound.bound_ps));
  mci_str_add(out, ", \"load\": null, \"chosen\": false, \"reason\": ");
  mci_str_json(out, c->reason);
  mci_str_add(out, "}");
}

static void json(const answer* a, mci_str* out) {
  mci_str_add(out, "{\"topology\": ");
  mci_str_json(out, a->topo_text.text);
  mci_str_add(out, ", \"nranks\": %u, \"collective\": \"%s\", \"bytes\": %llu, \"root\": %u,\n \"candidates\": [",
              mci_topo_nranks(a->topo), mci_coll_name(a->request.coll), (unsigned long long)a->request.bytes,
              a->request.root);
  for (uint32_t i = 0; i < a->ncandidates; i++) {
    mci_str_add(out, i ? ",\n  " : "\n  ");
    json_row(a, i, out);
  }
  mci_str_add(out, "]");
  if (a->options->has_rank) {
    mci_str_add(out, ",\n \"rank\": %u, \"program\": ", a->options->rank);
    mci_str_json(out, a->program.text);
  }
  for (int in_place = 0; in_place < 2 && a->options->verify; in_place++) {
    const mci_verify_report* proof = &a->proofs[in_place];
    mci_str_add(out, ",\n \"%s\": {\"steps\": %llu, \"messages\": %llu, \"depth\": %llu, \"bits\": \"%s\"}",
                in_place ? "proved_in_place" : "proved", (unsigned long long)proof->steps,
                (unsigned long long)proof->messages, (unsigned long long)proof->depth, proof->bits);
  }
  mci_str_add(out, "}\n");
}

static meshcclResult_t answer_all(const options* o) {
  answer a = {.options = o};
  mci_str out = {0};
  meshcclResult_t result = find(&a);
  if (result == meshcclSuccess) {
    if (o->json) {
      json(&a, &out);
    } else {
      text(&a, &out);
    }
    result = mci_str_result(&out);
  }
  if (result == meshcclSuccess) fputs(out.text, stdout);
  mci_str_fini(&out);
  mci_str_fini(&a.program);
  mci_str_fini(&a.topo_text);
  mci_topo_destroy(a.topo);
  return result;
}

int mci_tool_plan(int argc, char** argv) {
  options o = {0};
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0) continue;
    fputs(usage, stdout);
    fputs(mci_tool_simulate_usage, stdout);
    return 0;
  }
  if (parse_options(argc, argv, &o) != meshcclSuccess) {
    fprintf(stderr, "meshccl plan: %s\n%s%s", mci_error_last(), usage, mci_tool_simulate_usage);
    return 2;
  }
  if (answer_all(&o) == meshcclSuccess) return 0;
  fprintf(stderr, "meshccl plan: %s\n", mci_error_last());
  return 1;
}
