/* The JSON file (layout of nccl-tests, version 3) and the CSV file of a report. Called by report.c only; every function
 * does nothing for a file that was not asked for. */
#ifndef PERF_REPORT_FILES_H
#define PERF_REPORT_FILES_H

#include "perf/engine/report.h"

bool perf_report_files_open(perf_report* report, int argc, char** argv);
void perf_report_files_head(perf_report* report, const perf_device* devices, int n);
void perf_report_files_row(perf_report* report, const perf_row* row);
void perf_report_files_close(perf_report* report, double average, const char* fast, const char* error);
#endif
