/* Jobs of which one rank is killed or stopped at a random moment: starts them, strikes, and judges what the other ranks
 * have seen. Public headers only. */
#ifndef MCI_INTEGRATION_VICTIMS_H
#define MCI_INTEGRATION_VICTIMS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum { DURING_INIT, DURING_CALLS, DURING_IDLE, DURING_DESTROY, MOMENTS } moment;
typedef enum { OVER_SHM, OVER_TCP, OVER_BOTH, WIRES } wires; /* BOTH: hosts made up by MESHCCL_HOST_ID */

typedef struct {
  int n, victim, hosts; /* hosts: of OVER_BOTH */
  wires over;
  moment when;
  bool stop;         /* SIGSTOP and later SIGCONT, not SIGKILL */
  bool threadless;   /* MESHCCL_PROGRESS_THREAD=0 */
  double silence;    /* MESHCCL_SILENCE_TIMEOUT; 0: default */
  double op_limit;   /* 0: 60 s */
  double allowed;    /* seconds from the blow to the last error */
  unsigned delay_us; /* after the moment has begun on all ranks (init: on rank 0) */
  uint64_t seed;
} blow;

/* Runs the job in a process of its own; false when a rank saw anything else than an error that names the victim in time,
 * or something was left behind: that is printed. *slowest_out: seconds until the last error. *errors_out: ranks with one
 * (those that left before the blow, or while it fell, have none). */
bool run_victim(const blow* b, double* slowest_out, int* errors_out);
void print_blow(const blow* b);
#endif
