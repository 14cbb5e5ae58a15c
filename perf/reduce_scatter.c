/* reduce_scatter_perf: rank r gets block r of the reduction of all ranks' vectors. */
#include "perf/engine/perf.h"

static perf_piece send_piece(const perf_view* view, int block) {
  return (perf_piece){PERF_INPUT, 0, (size_t)block * view->count};
}

static perf_piece recv_piece(const perf_view* view, int block) {
  (void)block;
  return (perf_piece){PERF_RESULT, 0, (size_t)view->rank * view->count};
}

static double bus_factor(int nranks) { return (nranks - 1.0) / nranks; }

static meshcclResult_t call(const perf_call* c) {
  return meshcclReduceScatter(c->send, c->recv, c->count, c->type, c->op, c->comm, c->stream);
}

static const perf_program program = {
    .program = "reduce_scatter_perf",
    .name = "ReduceScatter",
    .collective = "reduce_scatter",
    .send_blocks = PERF_PER_RANK,
    .recv_blocks = PERF_ONE,
    .reduces = true,
    .in_place = true,
    .send = send_piece,
    .recv = recv_piece,
    .bus_factor = bus_factor,
    .call = call,
};

int main(int argc, char** argv) { return perf_main(&program, argc, argv); }
