/* Runs a function as N ranks: processes, threads of one process, or both mixed. Public headers only. */
#ifndef MCI_INTEGRATION_HARNESS_H
#define MCI_INTEGRATION_HARNESS_H

#include <meshccl/meshccl.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct {
  int rank, nranks;
  meshcclUniqueId id;
  void* arg;
} rank_env;

/* Returns 0 when all is well; has printed why not. */
typedef int (*rank_main)(rank_env* env);

typedef enum { AS_PROCESSES, AS_THREADS, AS_MIXED } run_mode;
const char* run_mode_name(run_mode mode);

/* Runs and waits. With MESHCCL_TESTS_JOB=RANK/RANKS/FOLDER this process is one rank of a job that a script has started:
 * it takes its part where n is small enough. Returns the number of ranks that failed (killed and late ones count).
 * Prints nothing on success. */
int run_ranks(run_mode mode, int n, rank_main fn, void* arg);

/* Processes only: starts them, so that a test can kill some. pids has room for n. */
void start_processes(int n, rank_main fn, void* arg, pid_t* pids);
/* Waits at most `seconds` for pid; returns its exit status, -signal, or -1000 when it had to be killed. */
int wait_process(pid_t pid, double seconds);
double now_seconds(void);

#define need(call)                                                                          \
  do {                                                                                      \
    meshcclResult_t need_result_ = (call);                                                  \
    if (need_result_ != meshcclSuccess) {                                                   \
      fprintf(stderr, "rank %d: %s:%d: %s: %s: %s\n", env->rank, __FILE__, __LINE__, #call, \
              meshcclGetErrorString(need_result_), meshcclGetLastError(NULL));              \
      return 1;                                                                             \
    }                                                                                       \
  } while (0)

#define expect(condition, ...)                                            \
  do {                                                                    \
    if (!(condition)) {                                                   \
      fprintf(stderr, "rank %d: %s:%d: ", env->rank, __FILE__, __LINE__); \
      fprintf(stderr, __VA_ARGS__);                                       \
      fprintf(stderr, "\n");                                              \
      return 1;                                                           \
    }                                                                     \
  } while (0)

/* Makes the rank's communicator with a topology (NULL: default). */
meshcclResult_t open_comm(rank_env* env, const char* topology, meshcclComm_t* comm);
#endif
