/* --np: a program starts its own ranks as processes of this host. No other hosts, no labels on output: that is what
 * `meshccl run` is for. Called by perf_main and by workload_perf before anything is opened. */
#ifndef PERF_LAUNCH_H
#define PERF_LAUNCH_H

/* Starts np copies of this program with the same arguments and waits for them: *status gets the exit status of the job
 * and the result is 1. 0: this process is a rank itself and goes on. */
int perf_launch(int np, char** argv, int* status);
#endif
