/* meshccl: one program, one subcommand per file. Finds the subcommand and hands over. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "tools/tools.h"

static const mci_tool tools[] = {
    {"info", mci_tool_info, "print version, transports, kernels, devices and every variable"},
    {"run", mci_tool_run, "start the ranks of a program, on this machine or on several hosts"},
    {"topo", mci_tool_topo, "check, describe and draw a topology, with the bounds of every collective"},
    {"plan", mci_tool_plan, "compare the algorithms for a collective on a topology, print and prove their programs"},
    {"verify", mci_tool_verify, "prove a schedule in text, or say what is wrong with it"},
    {"tune", mci_tool_tune, "measure the links between the ranks of a job and write a topology with their figures"},
    {"top", mci_tool_top, "show what the ranks of a running job do and whom they wait for"},
    {"version", mci_tool_version, "print the version"},
};

static void print_help(FILE* out) {
  fprintf(out, "usage: meshccl COMMAND [options]\n\n");
  for (size_t i = 0; i < MCI_COUNT(tools); i++) fprintf(out, "  %-10s %s\n", tools[i].name, tools[i].help);
  fprintf(out, "\nmeshccl COMMAND --help tells more of each.\n");
}

static int unknown(const char* name) {
  unsigned best = 4;
  const char* nearest = NULL;
  for (size_t i = 0; i < MCI_COUNT(tools); i++) {
    unsigned distance = mci_distance(name, tools[i].name);
    if (distance >= best) continue;
    best = distance;
    nearest = tools[i].name;
  }
  fprintf(stderr, "meshccl: there is no command \"%s\"", name);
  if (nearest) fprintf(stderr, "; did you mean \"%s\"?", nearest);
  fprintf(stderr, "\n\n");
  print_help(stderr);
  return 2;
}

int main(int argc, char** argv) {
  if (argc < 2) {
    print_help(stderr);
    return 2;
  }
  const char* name = argv[1];
  if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
    print_help(stdout);
    return 0;
  }
  if (strcmp(name, "--version") == 0) name = "version";
  if (strcmp(name, "run-agent") == 0) return mci_tool_run_agent(argc - 1, argv + 1);
  for (size_t i = 0; i < MCI_COUNT(tools); i++)
    if (strcmp(name, tools[i].name) == 0) return tools[i].function(argc - 1, argv + 1);
  return unknown(name);
}
