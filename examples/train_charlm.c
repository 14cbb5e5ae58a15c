/* Data-parallel training of a small language model on real text.
 *
 *   meshccl run -n 4 --topo torus:2x2 -- train_charlm [--steps N] [--batch N] [--bucket BYTES] [--thread] FILE...
 *
 * Every rank takes its share of each batch. As soon as the backward pass has finished the layers of a bucket, their
 * gradients are summed over the ranks on a stream, while the pass goes on with the layers below. Before a bucket's
 * weights are updated, its event is waited for. What of the communication is visible is what it adds to the passes and
 * this waiting, compared with passes alone. The same samples are drawn whatever the number of ranks, so that the losses
 * agree but for rounding. */
#include <getopt.h>
#include <meshccl/meshccl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "charlm_model.h"

typedef struct {
  int steps, batch;
  size_t bucket_bytes;
  bool thread;
} options;

typedef struct {
  size_t offset, count; /* in the gradients, in elements */
  int first, last;      /* layers */
  meshcclEvent_t done;
} bucket;

typedef struct {
  options options;
  int rank, nranks;
  meshcclComm_t comm;
  meshcclStream_t stream;
  charlm* model;
  float* gradients;
  bucket buckets[CHARLM_LAYERS];
  int nbuckets, next_bucket;
  unsigned char* text;
  size_t length;
  meshcclResult_t result; /* first failure inside the hooks */
  double waited;          /* seconds spent waiting for gradients; slower ranks included */
  double passes, inside;  /* seconds in forward and backward passes, and of these inside meshccl */
  double early, all;      /* elements that were summed before the backward pass ended, and all */
} trainer;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int read_text(trainer* t, char** files, int nfiles) {
  for (int i = 0; i < nfiles; i++) {
    FILE* file = fopen(files[i], "rb");
    unsigned char chunk[65536];
    size_t n;
    if (!file) {
      fprintf(stderr, "train_charlm: %s cannot be opened\n", files[i]);
      return 1;
    }
    while ((n = fread(chunk, 1, sizeof chunk, file)) > 0) {
      unsigned char* grown = realloc(t->text, t->length + n);
      if (!grown) {
        fclose(file);
        return 1;
      }
      t->text = grown;
      memcpy(t->text + t->length, chunk, n);
      t->length += n;
    }
    fclose(file);
  }
  if (t->length > 2 * (CHARLM_CONTEXT + 1)) return 0;
  fprintf(stderr, "train_charlm: give text files of some kilobytes, such as README.md docs/*.md\n");
  return 1;
}

/* Layers in the order of the backward pass are gathered until a bucket is full. */
static int make_buckets(trainer* t) {
  for (int layer = 0; layer < CHARLM_LAYERS; layer++) {
    size_t offset, size;
    charlm_layer(t->model, layer, &offset, &size);
    bucket* last = t->nbuckets ? &t->buckets[t->nbuckets - 1] : NULL;
    if (!last || last->count * sizeof(float) >= t->options.bucket_bytes) {
      last = &t->buckets[t->nbuckets++];
      last->offset = offset;
      last->first = layer;
      MESHCCL_CHECK(meshcclEventCreate(&last->done));
    }
    last->count += size;
    last->last = layer;
  }
  return 0;
}

static meshcclResult_t send_bucket(trainer* t, const bucket* b) {
  float* at = t->gradients + b->offset;
  meshcclResult_t result = meshcclAllReduce(at, at, b->count, meshcclFloat32, meshcclSum, t->comm, t->stream);
  return result == meshcclSuccess ? meshcclEventRecord(b->done, t->stream) : result;
}

static void layer_done(void* arg, int layer) {
  trainer* t = arg;
  const bucket* b = &t->buckets[t->next_bucket];
  if (layer != b->last || t->result != meshcclSuccess) return;
  double before = now();
  t->result = send_bucket(t, b);
  t->inside += now() - before;
  t->next_bucket++;
}

/* Without a progress thread the communication moves when the caller looks at it. */
static void tick(void* arg) {
  trainer* t = arg;
  if (t->next_bucket == 0) return;
  double before = now();
  meshcclStreamQuery(t->stream);
  t->inside += now() - before;
}

/* The samples of a step: the same for every number of ranks; this rank's share of them. */
static void draw(const trainer* t, int step, size_t* starts) {
  int share = t->options.batch / t->nranks;
  for (int i = 0; i < share; i++) {
    unsigned long long x = (unsigned long long)step * 1000003u + (unsigned long long)(t->rank * share + i) + 1;
    x *= 0x9e3779b97f4a7c15ull;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9ull;
    x ^= x >> 32;
    starts[i] = (size_t)(x % (t->length - CHARLM_CONTEXT));
  }
}

static int train_step(trainer* t, int step, size_t* starts, double* loss) {
  charlm_hooks hooks = {.arg = t, .layer_done = layer_done, .tick = t->options.thread ? NULL : tick};
  t->next_bucket = 0;
  draw(t, step, starts);
  double began = now();
  *loss = charlm_step(t->model, t->text, starts, 1.0f / (float)t->options.batch, &hooks);
  t->passes += now() - began;
  MESHCCL_CHECK(t->result);
  for (int b = 0; b < t->nbuckets; b++) {
    meshcclResult_t done = meshcclEventQuery(t->buckets[b].done);
    t->early += done == meshcclSuccess ? (double)t->buckets[b].count : 0;
    t->all += (double)t->buckets[b].count;
  }
  for (int b = 0; b < t->nbuckets; b++) {
    double before = now();
    MESHCCL_CHECK(meshcclEventSynchronize(t->buckets[b].done));
    t->waited += now() - before;
    for (int layer = t->buckets[b].first; layer <= t->buckets[b].last; layer++)
      charlm_update(t->model, layer, 0.08f, 0.9f);
  }
  return 0;
}

enum { WARM_UP = 3, ROUNDS = 20 };
#define LEAST_SHARE 0.02 /* of the passes, whose own time varies by as much */

/* Seconds that the buckets of one step take when nothing is computed meanwhile: the mean of some rounds. */
static int communicate_alone(trainer* t, double* seconds) {
  double began = 0;
  for (int round = -WARM_UP; round < ROUNDS; round++) {
    if (round == 0) {
      MESHCCL_CHECK(meshcclBarrier(t->comm, NULL));
      began = now();
    }
    for (int b = 0; b < t->nbuckets; b++) MESHCCL_CHECK(send_bucket(t, &t->buckets[b]));
    MESHCCL_CHECK(meshcclStreamSynchronize(t->stream));
  }
  *seconds = (now() - began) / ROUNDS;
  return 0;
}

/* And those of the passes of one step when nothing is sent. The weights stay as they are. */
static int compute_alone(trainer* t, size_t* starts, double* seconds) {
  const charlm_hooks none = {.arg = NULL};
  double began = 0;
  draw(t, 0, starts);
  for (int round = -WARM_UP; round < ROUNDS; round++) {
    if (round == 0) {
      MESHCCL_CHECK(meshcclBarrier(t->comm, NULL));
      began = now();
    }
    charlm_step(t->model, t->text, starts, 1.0f / (float)t->options.batch, &none);
  }
  *seconds = (now() - began) / ROUNDS;
  MESHCCL_CHECK(meshcclBarrier(t->comm, NULL)); /* who is ready first would be timed as waiting */
  return 0;
}

static void report(const trainer* t, double seconds, double communication, double computation) {
  int n = t->options.steps;
  double visible = (t->passes + t->waited) / n - computation;
  double hidden = communication > 0 ? 100 * (1 - visible / communication) : 100;
  if (t->rank != 0) return;
  printf(
      "%d ranks, %zu parameters in %d buckets: %.3f ms per step; passes alone %.3f ms, communication alone %.3f ms\n",
      t->nranks, charlm_parameters(t->model), t->nbuckets, seconds / n * 1e3, computation * 1e3, communication * 1e3);
  if (communication < LEAST_SHARE * computation) {
    printf("communication is %.1f %% of the passes: too little to tell how much is hidden",
           100 * communication / computation);
  } else {
    printf("hidden: %.0f %% of the communication", hidden < 0 ? 0 : hidden > 100 ? 100 : hidden);
  }
  printf("; %.0f %% of the gradient bytes were summed before the backward pass ended\n", 100 * t->early / t->all);
  printf("caller in meshccl: %.3f ms per step during the passes, %.3f ms waiting for gradients and slower ranks\n",
         t->inside / n * 1e3, t->waited / n * 1e3);
}

static int train(trainer* t) {
  size_t* starts = malloc((size_t)t->options.batch * sizeof *starts);
  double communication, computation, began, recent = 0, loss;
  int counted = 0;
  if (!starts || communicate_alone(t, &communication) || compute_alone(t, starts, &computation)) return 1;
  began = now();
  for (int step = 0; step < t->options.steps; step++) {
    if (train_step(t, step, starts, &loss)) return 1;
    recent += loss;
    counted += t->options.batch;
    if (step % (t->options.steps / 10 > 0 ? t->options.steps / 10 : 1) != 0 && step != t->options.steps - 1) continue;
    MESHCCL_CHECK(meshcclAllReduce(&recent, &recent, 1, meshcclFloat64, meshcclSum, t->comm, NULL));
    if (t->rank == 0) printf("step %5d  loss %.5f\n", step, recent / counted);
    recent = counted = 0;
  }
  report(t, now() - began, communication, computation);
  free(starts);
  return 0;
}

static int parse(int argc, char** argv, options* o) {
  static const struct option names[] = {{"steps", required_argument, NULL, 's'},
                                        {"batch", required_argument, NULL, 'b'},
                                        {"bucket", required_argument, NULL, 'u'},
                                        {"thread", no_argument, NULL, 't'},
                                        {NULL, 0, NULL, 0}};
  *o = (options){.steps = 300, .batch = 64, .bucket_bytes = 128 << 10};
  for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
    if (c == 's') o->steps = atoi(optarg);
    if (c == 'b') o->batch = atoi(optarg);
    if (c == 'u') o->bucket_bytes = (size_t)atoll(optarg);
    if (c == 't') o->thread = true;
    if (c == '?') return 1;
  }
  if (o->steps > 0 && o->batch > 0) return 0;
  fprintf(stderr, "train_charlm: --steps and --batch must be at least 1\n");
  return 1;
}

static int set_up(trainer* t, char** files, int nfiles) {
  meshcclConfig_t config = MESHCCL_CONFIG_INITIALIZER;
  config.progressThread = t->options.thread;
  if (read_text(t, files, nfiles)) return 1;
  MESHCCL_CHECK(meshcclCommInitEnv(&t->comm, &config));
  MESHCCL_CHECK(meshcclCommUserRank(t->comm, &t->rank));
  MESHCCL_CHECK(meshcclCommCount(t->comm, &t->nranks));
  if (t->options.batch % t->nranks) {
    fprintf(stderr, "train_charlm: --batch %d cannot be shared by %d ranks\n", t->options.batch, t->nranks);
    return 1;
  }
  t->model = charlm_create(t->options.batch / t->nranks, 1);
  if (!t->model) return 1;
  MESHCCL_CHECK(meshcclMemAlloc((void**)&t->gradients, charlm_parameters(t->model) * sizeof(float)));
  charlm_use_gradients(t->model, t->gradients);
  MESHCCL_CHECK(meshcclStreamCreate(&t->stream));
  return make_buckets(t);
}

int main(int argc, char** argv) {
  trainer t = {.result = meshcclSuccess};
  if (parse(argc, argv, &t.options) || set_up(&t, argv + optind, argc - optind)) return 1;
  int failed = train(&t);
  for (int b = 0; b < t.nbuckets; b++) meshcclEventDestroy(t.buckets[b].done);
  meshcclStreamDestroy(t.stream);
  meshcclMemFree(t.gradients);
  charlm_destroy(t.model);
  free(t.text);
  return meshcclCommDestroy(t.comm) != meshcclSuccess || failed;
}
