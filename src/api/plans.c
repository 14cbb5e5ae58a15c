/* Plans: one program per size class, made by the planner (or read from a file) on first use, proved when asked for,
 * kept in a bounded cache. A new count of a known class neither plans nor allocates. */
#include <stdio.h>
#include <string.h>

#include "api/comm.h"
#include "kernels/kernels.h"
#include "topo/plan/plan.h"

#define POINT_TO_POINT_CHANNEL (MCI_MAX_CHANNELS - 1)

/* ---- schedules from files ---------------------------------------------------------------------------------------- */

/* The file that MESHCCL_SCHEDULE names for this collective, or NULL. */
static const char* schedule_file(mci_coll coll, char* name, size_t size) {
  const char* text = mci_param_text(MCI_P_SCHEDULE);
  while (text && *text) {
    size_t entry = strcspn(text, ";"), colon = strcspn(text, ":");
    char key[32];
    snprintf(key, sizeof key, "%.*s", (int)MCI_MIN(colon, sizeof key - 1), text);
    mci_coll named;
    if (colon < entry && mci_coll_parse(key, &named) == meshcclSuccess && named == coll) {
      snprintf(name, size, "%.*s", (int)(entry - colon - 1), text + colon + 1);
      return name;
    }
    text += entry + (text[entry] == ';');
  }
  return NULL;
}

static meshcclResult_t read_file(const char* name, mci_str* out) {
  FILE* file = fopen(name, "re");
  if (!file) MCI_FAIL(meshcclInvalidArgument, "MESHCCL_SCHEDULE: %s cannot be opened", name);
  char chunk[4096];
  size_t n;
  while ((n = fread(chunk, 1, sizeof chunk - 1, file)) > 0) {
    chunk[n] = 0;
    mci_str_add(out, "%s", chunk);
  }
  fclose(file);
  return mci_str_result(out);
}

static meshcclResult_t verify(const mci_schedule* schedule) {
  mci_verify_report report;
  mci_verify_options options = {.in_place = false, .credits = 1};
  MCI_TRY(mci_schedule_verify(schedule, &options, &report));
  if (schedule->programs[0]->coll == MCI_ALL_TO_ALL) return meshcclSuccess;
  options.in_place = true;
  return mci_schedule_verify(schedule, &options, &report);
}

static meshcclResult_t load_schedule(meshcclComm_t comm, mci_coll coll, uint32_t root, const char* name,
                                     mci_program** out) {
  mci_str text = {0};
  mci_schedule* schedule = NULL;
  meshcclResult_t result;
  MCI_TRY_OR(read_file(name, &text), done);
  MCI_TRY_OR(mci_schedule_parse(text.text ? text.text : "", text.length, name, &schedule), done);
  const mci_program* first = schedule->programs[0];
  if (first->coll != coll || schedule->nranks != comm->nranks || (mci_coll_rooted(coll) && first->root != root)) {
    result =
        mci_fail(meshcclInvalidUsage,
                 "%s is a schedule of %s for %u ranks and root %u; this call is %s on %u ranks with root %u", name,
                 mci_coll_name(first->coll), schedule->nranks, first->root, mci_coll_name(coll), comm->nranks, root);
    goto done;
  }
  MCI_TRY_OR(verify(schedule), done);
  *out = schedule->programs[comm->rank];
  schedule->programs[comm->rank] = NULL;
done:
  mci_schedule_destroy(schedule);
  mci_str_fini(&text);
  return result;
}

/* ---- planning ---------------------------------------------------------------------------------------------------- */

static bool proof_wanted(const meshcclComm_t comm) {
#ifdef NDEBUG
  bool by_default = false;
#else
  bool by_default = comm->nranks <= 256;
#endif
  int64_t mode = mci_param_int(MCI_P_VERIFY); /* auto, on, off */
  return comm->rank == 0 && (mode == 1 || (mode == 0 && by_default));
}

static meshcclResult_t prove(meshcclComm_t comm, const mci_request* request, const mci_candidate* choice) {
  if (!proof_wanted(comm)) return meshcclSuccess;
  mci_schedule* schedule;
  MCI_TRY(mci_plan_build_all(comm->topo, request, choice, &schedule));
  meshcclResult_t result = verify(schedule);
  mci_schedule_destroy(schedule);
  return result;
}

static meshcclResult_t plan(meshcclComm_t comm, const mci_request* request, mci_program** out) {
  char forced[64] = "";
  mci_candidate choice;
  MCI_TRY(mci_plan_forced(mci_param_text(MCI_P_ALGO), request->coll, forced, sizeof forced));
  MCI_TRY(mci_plan_choose(comm->topo, request, forced[0] ? forced : NULL, &choice));
  MCI_TRY(prove(comm, request, &choice));
  MCI_INFO("%s: %s of about %llu bytes runs %s: %llu steps, predicted %.2f us", comm->name,
           mci_coll_name(request->coll), (unsigned long long)request->bytes, choice.family->name,
           (unsigned long long)choice.cost.steps, (double)choice.cost.cost_ps / 1e6);
  return mci_plan_build(comm->topo, request, &choice, comm->rank, out);
}

/* ---- cache ------------------------------------------------------------------------------------------------------- */

void mci_plan_used_again(meshcclComm_t comm, const mci_run* run) {
  comm->plan_hits++;
  if (comm->plans[comm->last_plan].run != run) {
    for (comm->last_plan = 0; comm->plans[comm->last_plan].run != run;) comm->last_plan++;
  }
  comm->plans[comm->last_plan].used = ++comm->plan_clock;
}

static mci_plan* find(meshcclComm_t comm, const mci_request* request) {
  for (uint32_t i = 0; i < comm->nplans; i++) {
    mci_plan* known = &comm->plans[i];
    if (known->bytes_class != request->bytes || known->coll != request->coll || known->root != request->root ||
        known->once != request->once)
      continue;
    known->used = ++comm->plan_clock;
    return known;
  }
  return NULL;
}

/* A free place: a new one, or that of the plan unused for longest. */
static meshcclResult_t place(meshcclComm_t comm, mci_plan** out) {
  uint32_t limit = (uint32_t)mci_param_int(MCI_P_PLAN_CACHE);
  mci_plan* oldest = NULL;
  for (uint32_t i = 0; i < comm->nplans && comm->nplans >= limit; i++) {
    mci_plan* known = &comm->plans[i];
    if (!mci_run_busy(known->run) && (!oldest || known->used < oldest->used)) oldest = known;
  }
  if (oldest) {
    mci_call_forget(comm, oldest->run);
    mci_run_destroy(oldest->run);
    *out = oldest;
    return meshcclSuccess;
  }
  MCI_TRY(mci_grow(&comm->plans, sizeof *comm->plans, &comm->cap_plans, (size_t)comm->nplans + 1));
  *out = &comm->plans[comm->nplans++];
  return meshcclSuccess;
}

static meshcclResult_t keep(meshcclComm_t comm, mci_program* program, mci_plan key, mci_plan** out) {
  mci_run* run;
  meshcclResult_t result = mci_run_create(program, &run);
  if (result != meshcclSuccess) {
    mci_program_destroy(program);
    return result;
  }
  result = place(comm, out);
  if (result != meshcclSuccess) {
    mci_run_destroy(run);
    return result;
  }
  key.run = run;
  key.used = ++comm->plan_clock;
  key.algorithm = mci_hash64(program->algorithm, strlen(program->algorithm));
  **out = key;
  comm->plans_built++;
  return meshcclSuccess;
}

/* Whether it makes a difference where the results are rounded. */
static bool is_narrow(const mci_op* op) {
  return mci_type_is_float(op->type) && op->type_size <= 2 && op->op != meshcclMax && op->op != meshcclMin;
}

meshcclResult_t mci_plan_get(meshcclComm_t comm, mci_coll coll, const mci_op* op, uint32_t root, mci_plan** out) {
  uint64_t bytes = op->count * op->type_size * (mci_coll_block_major(coll) ? comm->nranks : 1);
  mci_request request = mci_plan_request(coll, mci_plan_class(bytes), comm->nranks, is_narrow(op));
  request.root = root;
  *out = find(comm, &request);
  if (*out) {
    comm->plan_hits++;
    return meshcclSuccess;
  }
  char name[4096];
  mci_program* program;
  if (schedule_file(coll, name, sizeof name)) {
    MCI_TRY(load_schedule(comm, coll, root, name, &program));
  } else {
    MCI_TRY(plan(comm, &request, &program));
  }
  return keep(comm, program, (mci_plan){.coll = coll, .bytes_class = request.bytes, .once = request.once, .root = root},
              out);
}

/* One channel, one step: the message to or from the peer. */
meshcclResult_t mci_plan_point_to_point(meshcclComm_t comm, bool send, uint32_t peer, mci_plan** out) {
  uint64_t key = send ? 1 : 2; /* in the place of the size class */
  mci_request request = {.coll = MCI_SEND_RECV, .bytes = key, .root = peer};
  *out = find(comm, &request);
  if (*out) return meshcclSuccess;
  mci_shape whole = mci_span(mci_const(0), 1, mci_const(0));
  mci_build* b = mci_build_begin(MCI_SEND_RECV, send ? "send" : "receive", comm->nranks, comm->rank, 0);
  if (!b) return mci_oom(sizeof(mci_program));
  mci_build_channel(b, POINT_TO_POINT_CHANNEL);
  mci_build_step(b, 0);
  if (send) {
    mci_build_dst_lane(b, 0, mci_const((int32_t)peer));
    mci_build_src(b, MCI_IN, whole);
  } else {
    mci_build_dst(b, MCI_OUT, 0, whole);
    mci_build_src_lane(b, mci_const((int32_t)peer));
  }
  mci_program* program;
  MCI_TRY(mci_build_finish(b, &program));
  return keep(comm, program, (mci_plan){.coll = MCI_SEND_RECV, .bytes_class = key, .root = peer}, out);
}

void mci_plans_free(meshcclComm_t comm) {
  for (uint32_t i = 0; i < comm->nplans; i++) mci_run_destroy(comm->plans[i].run);
  mci_free(comm->plans);
}
