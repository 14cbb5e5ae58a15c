/* meshccl verify: reads a schedule in text and proves it for all its ranks, or says what is wrong with it. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "sched/sched.h"
#include "tools/tools.h"

#define MAX_FILE_BYTES ((size_t)1 << 30)

static const char usage[] =
    "usage: meshccl verify FILE [--in-place] [--json]\n"
    "\n"
    "Proves the schedule in FILE (\"-\": standard input; see docs/schedule-format.md) for every count, type and\n"
    "timing, or says what is wrong. Returns 0 when it is proved, 1 when it is not, 2 for wrong usage.\n"
    "\n"
    "      --in-place   for calls in place, too\n"
    "      --json       the answer as JSON\n"
    "  -h, --help       this text\n";

static meshcclResult_t read_all(FILE* file, const char* name, mci_str* out) {
  char piece[1 << 16];
  for (size_t n; (n = fread(piece, 1, sizeof piece, file)) > 0;) {
    if (memchr(piece, 0, n)) MCI_FAIL(meshcclInvalidArgument, "%s is not a text: it has zero bytes", name);
    if (out->length + n > MAX_FILE_BYTES)
      MCI_FAIL(meshcclInvalidArgument, "%s is longer than %zu bytes", name, MAX_FILE_BYTES);
    mci_str_add(out, "%.*s", (int)n, piece);
  }
  if (ferror(file)) MCI_FAIL(meshcclSystemError, "%s could not be read: %m", name);
  return mci_str_result(out);
}

static meshcclResult_t read_schedule(const char* name, mci_schedule** out) {
  mci_str text = {0};
  bool standard = strcmp(name, "-") == 0;
  FILE* file = standard ? stdin : fopen(name, "re");
  if (!file) MCI_FAIL(meshcclSystemError, "%s could not be opened: %m", name);
  meshcclResult_t result = read_all(file, name, &text);
  if (!standard) fclose(file);
  if (result == meshcclSuccess) result = mci_schedule_parse(text.text ? text.text : "", text.length, name, out);
  mci_str_fini(&text);
  return result;
}

static meshcclResult_t prove(const mci_schedule* schedule, bool in_place, mci_verify_report* report) {
  mci_verify_options options = {.in_place = in_place};
  if (in_place) MCI_TRY(mci_schedule_verify(schedule, &options, report));
  return mci_schedule_verify(schedule, NULL, report);
}

static void print_json(const char* name, const mci_schedule* schedule, bool in_place, meshcclResult_t result,
                       const mci_verify_report* report) {
  mci_str out = {0};
  mci_str_add(&out, "{\"file\": ");
  mci_str_json(&out, name);
  mci_str_add(&out, ", \"proved\": %s", result == meshcclSuccess ? "true" : "false");
  if (schedule) {
    const mci_program* p = schedule->programs[0];
    mci_str_add(&out, ", \"collective\": \"%s\", \"algorithm\": ", mci_coll_name(p->coll));
    mci_str_json(&out, p->algorithm);
    mci_str_add(&out, ", \"ranks\": %u, \"in_place\": %s", schedule->nranks, in_place ? "true" : "false");
  }
  if (result == meshcclSuccess) {
    mci_str_add(&out, ", \"steps\": %llu, \"messages\": %llu, \"depth\": %llu, \"bits\": \"%s\"}",
                (unsigned long long)report->steps, (unsigned long long)report->messages,
                (unsigned long long)report->depth, report->bits);
  } else {
    mci_str_add(&out, ", \"error\": ");
    mci_str_json(&out, mci_error_last());
    mci_str_add(&out, "}");
  }
  printf("%s\n", out.text ? out.text : "{}");
  mci_str_fini(&out);
}

static void print_text(const char* name, const mci_schedule* schedule, bool in_place, meshcclResult_t result,
                       const mci_verify_report* report) {
  if (result != meshcclSuccess) {
    fprintf(stderr, "meshccl verify: %s%s%s\n", schedule ? name : "", schedule ? ": " : "", mci_error_last());
    return;
  }
  const mci_program* p = schedule->programs[0];
  printf("%s: %s \"%s\" on %u ranks is proved%s\n", name, mci_coll_name(p->coll), p->algorithm, schedule->nranks,
         in_place ? ", also in place" : "");
  printf("  steps    %llu\n  messages %llu\n  depth    %llu\n  bits     %s\n", (unsigned long long)report->steps,
         (unsigned long long)report->messages, (unsigned long long)report->depth, report->bits);
}

static int verify_file(const char* name, bool in_place, bool json) {
  mci_schedule* schedule = NULL;
  mci_verify_report report;
  meshcclResult_t result = read_schedule(name, &schedule);
  if (result == meshcclSuccess) result = prove(schedule, in_place, &report);
  if (json) {
    print_json(name, schedule, in_place, result, &report);
  } else {
    print_text(name, schedule, in_place, result, &report);
  }
  mci_schedule_destroy(schedule);
  return result == meshcclSuccess ? 0 : 1;
}

int mci_tool_verify(int argc, char** argv) {
  static const struct option options[] = {
      {"in-place", no_argument, NULL, 'i'}, {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
  bool in_place = false, json = false;
  optind = 1;
  for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
    if (option == 'h') {
      fputs(usage, stdout);
      return 0;
    }
    if (option == '?') {
      fputs(usage, stderr);
      return 2;
    }
    in_place = in_place || option == 'i';
    json = json || option == 'j';
  }
  if (optind + 1 != argc) {
    fprintf(stderr, "meshccl verify: one FILE is wanted\n%s", usage);
    return 2;
  }
  return verify_file(argv[optind], in_place, json);
}
