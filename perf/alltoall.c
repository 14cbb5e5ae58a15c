/* alltoall_perf: block d of rank s becomes block s of rank d. */
#include "perf/engine/perf.h"

static perf_piece send_piece(const perf_view* view, int block) {
  return (perf_piece){PERF_DATA, (uint64_t)view->rank * (uint64_t)view->nranks + (uint64_t)block, 0};
}

static perf_piece recv_piece(const perf_view* view, int block) {
  return (perf_piece){PERF_DATA, (uint64_t)block * (uint64_t)view->nranks + (uint64_t)view->rank, 0};
}

static double bus_factor(int nranks) { return (nranks - 1.0) / nranks; }

static meshcclResult_t call(const perf_call* c) {
  return meshcclAlltoAll(c->send, c->recv, c->count, c->type, c->comm, c->stream);
}

static const perf_program program = {
    .program = "alltoall_perf",
    .name = "AlltoAll",
    .collective = "all_to_all",
    .send_blocks = PERF_PER_RANK,
    .recv_blocks = PERF_PER_RANK,
    .send = send_piece,
    .recv = recv_piece,
    .bus_factor = bus_factor,
    .call = call,
};

int main(int argc, char** argv) { return perf_main(&program, argc, argv); }
