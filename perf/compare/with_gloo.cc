// Gloo's collectives over its TCP transport on loopback. COMPARE_RANK and COMPARE_SIZE say who this is, COMPARE_STORE is
// an empty folder in which the ranks meet.
#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/allreduce_halving_doubling.h>
#include <gloo/allreduce_ring_chunked.h>
#include <gloo/alltoall.h>
#include <gloo/barrier_all_to_one.h>
#include <gloo/broadcast.h>
#include <gloo/math.h>
#include <gloo/reduce_scatter.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "bench.h"

namespace {

std::shared_ptr<gloo::rendezvous::Context> context;
std::unique_ptr<gloo::Algorithm> prepared;
int np;

int start(int* rank, int* np_out) {
  const char *r = getenv("COMPARE_RANK"), *n = getenv("COMPARE_SIZE"), *store = getenv("COMPARE_STORE");
  if (!r || !n || !store) {
    fprintf(stderr, "COMPARE_RANK, COMPARE_SIZE and COMPARE_STORE are not set: see perf/compare/run.sh\n");
    return 2;
  }
  *rank = atoi(r);
  *np_out = np = atoi(n);
  gloo::transport::tcp::attr loopback("127.0.0.1");
  auto device = gloo::transport::tcp::CreateDevice(loopback);
  gloo::rendezvous::FileStore files(store);
  context = std::make_shared<gloo::rendezvous::Context>(*rank, np);
  context->connectFullMesh(files, device);
  return 0;
}

const char* variant(bench_op op, int number) {
  static const char* const out_of_place[] = {"ring", "bcube", nullptr};
  static const char* const in_place[] = {"ring", "bcube", "ring_chunked", "halving_doubling", nullptr};
  if (op == BENCH_ALL_REDUCE) return out_of_place[number];
  if (op == BENCH_ALL_REDUCE_IN_PLACE) return in_place[number];
  return number == 0 ? "" : nullptr;
}

void prepare(bench_op op, int number, float*, float* out, size_t count) {
  prepared.reset();
  std::vector<float*> vectors{out};
  if (op == BENCH_ALL_REDUCE_IN_PLACE && number == 2)
    prepared.reset(new gloo::AllreduceRingChunked<float>(context, vectors, static_cast<int>(count)));
  if (op == BENCH_ALL_REDUCE_IN_PLACE && number == 3)
    prepared.reset(new gloo::AllreduceHalvingDoubling<float>(context, vectors, static_cast<int>(count)));
  if (op == BENCH_REDUCE_SCATTER) {
    std::vector<int> blocks(static_cast<size_t>(np), static_cast<int>(count) / np);
    prepared.reset(new gloo::ReduceScatterHalvingDoubling<float>(context, vectors, static_cast<int>(count), blocks));
  }
}

void all_reduce(int number, float* in, float* out, size_t count) {
  using Sum = void (*)(void*, const void*, const void*, size_t);
  gloo::AllreduceOptions options(context);
  if (in != out) options.setInput(in, count);
  options.setOutput(out, count);
  options.setAlgorithm(number == 0 ? gloo::AllreduceOptions::Algorithm::RING
                                   : gloo::AllreduceOptions::Algorithm::BCUBE);
  options.setReduceFunction(static_cast<Sum>(&gloo::sum<float>));
  gloo::allreduce(options);
}

void all_gather(float* in, float* out, size_t count) {
  gloo::AllgatherOptions options(context);
  options.setInput(in, count / static_cast<size_t>(np));
  options.setOutput(out, count);
  gloo::allgather(options);
}

void broadcast(float* out, size_t count) {
  gloo::BroadcastOptions options(context);
  options.setOutput(out, count);
  options.setRoot(0);
  gloo::broadcast(options);
}

void all_to_all(float* in, float* out, size_t count) {
  gloo::AlltoallOptions options(context);
  options.setInput(in, count);
  options.setOutput(out, count);
  gloo::alltoall(options);
}

void call(bench_op op, int number, float* in, float* out, size_t count) {
  if (op == BENCH_REDUCE_SCATTER) {
    // It works in place only: out of place costs its user this copy.
    std::copy(in, in + count, out);
    prepared->run();
  } else if (prepared) {
    prepared->run();
  } else if (op == BENCH_ALL_REDUCE || op == BENCH_ALL_REDUCE_IN_PLACE) {
    all_reduce(number, in, out, count);
  } else if (op == BENCH_ALL_GATHER) {
    all_gather(in, out, count);
  } else if (op == BENCH_BROADCAST) {
    broadcast(out, count);
  } else {
    all_to_all(in, out, count);
  }
}

void stop() {
  gloo::BarrierAllToOne barrier(context);
  barrier.run();
}

}  // namespace

int main(int argc, char** argv) {
  static const bench_library gloo_library = {start, variant, bench_pages, prepare, call, stop};
  return bench_main(&gloo_library, argc, argv);
}
