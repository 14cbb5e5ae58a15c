/* meshccl plan --simulate: builds the programs of all ranks for a few candidates and runs them on the topology's links
 * (topo/sim). Called by plan.c. */
#include "tools/plan_simulate.h"

#include <stdio.h>
#include <string.h>

#include "topo/units.h"

#define MAX_SIMULATED_RANKS 4096
#define BEST 3

const char mci_tool_simulate_usage[] =
    "  --simulate[=all]  simulates the best three candidates (or all) on shared links; with it\n"
    "    --message BYTES   largest message (default as MESHCCL_SLICE says)\n"
    "    --credits N       messages under way per lane (default 8)\n"
    "    --latency TIME    delay of every link, such as 500ns, instead of the topology's\n"
    "    --overhead TIME   time that every message occupies a link on top of its bytes, likewise\n"
    "    --cut-through     routers pass messages on as they come; without it they store them first\n";

static meshcclResult_t parse_time(const char* name, const char* text, bool* set, uint64_t* ps_out) {
  if (!text) MCI_FAIL(meshcclInvalidArgument, "%s needs a time such as 500ns", name);
  *set = true;
  if (strcmp(text, "0") == 0) {
    *ps_out = 0;
    return meshcclSuccess;
  }
  mci_unit_kind kind;
  const char* reason = mci_unit_parse(text, strlen(text), &kind, ps_out);
  if (!reason && kind != MCI_UNIT_TIME) reason = "is a rate, not a time";
  if (reason) MCI_FAIL(meshcclInvalidArgument, "%s %s: %s", name, text, reason);
  return meshcclSuccess;
}

static meshcclResult_t parse_credits(const char* text, uint32_t* out) {
  unsigned value;
  char more;
  if (!text || sscanf(text, "%2u%c", &value, &more) != 1 || value < 1 || value > 64)
    MCI_FAIL(meshcclInvalidArgument, "--credits needs a number from 1 to 64");
  *out = value;
  return meshcclSuccess;
}

meshcclResult_t mci_tool_simulate_option(int argc, char** argv, int* i, mci_tool_simulation* out, bool* known) {
  const char *name = argv[*i], *value = *i + 1 < argc ? argv[*i + 1] : NULL;
  mci_sim_options* how = &out->how;
  *known = true;
  if (strcmp(name, "--simulate") == 0) {
    out->most = BEST;
    return meshcclSuccess;
  }
  if (strcmp(name, "--simulate=all") == 0) {
    out->most = MCI_MAX_CANDIDATES;
    return meshcclSuccess;
  }
  if (strcmp(name, "--cut-through") == 0) {
    how->cut_through = true;
    return meshcclSuccess;
  }
  ++*i; /* the others have a value */
  if (strcmp(name, "--message") == 0) {
    if (!value) MCI_FAIL(meshcclInvalidArgument, "--message needs a number of bytes");
    return mci_parse_size(value, "--message", &how->message_bytes);
  }
  if (strcmp(name, "--credits") == 0) return parse_credits(value, &how->credits);
  if (strcmp(name, "--latency") == 0) return parse_time(name, value, &how->set_lat, &how->lat_ps);
  if (strcmp(name, "--overhead") == 0) return parse_time(name, value, &how->set_cost, &how->cost_ps);
  --*i;
  *known = false;
  return meshcclSuccess;
}

static meshcclResult_t simulate(const mci_topo* topo, const mci_request* request, const mci_candidate* candidate,
                                const mci_sim_options* options, mci_tool_simulated* out) {
  mci_schedule* schedule;
  MCI_TRY(mci_plan_build_all(topo, request, candidate, &schedule));
  meshcclResult_t result = mci_sim_run(topo, schedule, options, &out->report);
  mci_schedule_destroy(schedule);
  out->done = result == meshcclSuccess;
  return result;
}

meshcclResult_t mci_tool_simulate(const mci_topo* topo, const mci_request* request, const mci_candidate* candidates,
                                  uint32_t ncandidates, const char* forced, const mci_tool_simulation* simulation,
                                  mci_tool_simulated* out) {
  if (mci_topo_nranks(topo) > MAX_SIMULATED_RANKS)
    MCI_FAIL(meshcclInvalidArgument, "--simulate builds the programs of all %u ranks; %d at most",
             mci_topo_nranks(topo), MAX_SIMULATED_RANKS);
  mci_sim_options options = simulation->how;
  options.bytes = request->bytes;
  options.message_bytes = request->message_bytes;
  for (uint32_t i = 0; i < ncandidates && candidates[i].applies; i++)
    if (i < simulation->most || (forced && strcmp(forced, candidates[i].family->name) == 0))
      MCI_TRY(simulate(topo, request, &candidates[i], &options, &out[i]));
  return meshcclSuccess;
}

void mci_tool_simulate_text(const char* name, const mci_tool_simulated* simulated, mci_str* out) {
  const mci_sim_report* r = &simulated->report;
  mci_str_add(out,
              "%-18s  links: %.1f %% busy (busiest %.1f), idle: %.1f before their first message, %.1f nothing ready, "
              "%.1f no credit, %.1f after their last; %llu messages, at most %u waited for a link\n",
              name, 100 * r->busy, 100 * r->busiest, 100 * r->fill, 100 * r->starved, 100 * r->credit, 100 * r->drain,
              (unsigned long long)r->messages, r->max_queue);
}
