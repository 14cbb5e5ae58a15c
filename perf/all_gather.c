/* all_gather_perf: every rank gets the blocks of all ranks. */
#include "perf/engine/perf.h"

static perf_piece send_piece(const perf_view* view, int block) {
  (void)block;
  return (perf_piece){PERF_DATA, (uint64_t)view->rank, 0};
}

static perf_piece recv_piece(const perf_view* view, int block) {
  (void)view;
  return (perf_piece){PERF_DATA, (uint64_t)block, 0};
}

static double bus_factor(int nranks) { return (nranks - 1.0) / nranks; }

static meshcclResult_t call(const perf_call* c) {
  return meshcclAllGather(c->send, c->recv, c->count, c->type, c->comm, c->stream);
}

static const perf_program program = {
    .program = "all_gather_perf",
    .name = "AllGather",
    .collective = "all_gather",
    .send_blocks = PERF_ONE,
    .recv_blocks = PERF_PER_RANK,
    .in_place = true,
    .send = send_piece,
    .recv = recv_piece,
    .bus_factor = bus_factor,
    .call = call,
};

int main(int argc, char** argv) { return perf_main(&program, argc, argv); }
