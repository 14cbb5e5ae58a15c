/* Subcommands of the program `meshccl`. Each takes its own argv (argv[0] is its name) and returns the exit status: 0
 * done, 1 failed, 2 wrong usage; `run` returns its ranks' status. To add one: its function here and a row in main.c. */
#ifndef MCI_TOOLS_H
#define MCI_TOOLS_H

typedef struct {
  const char* name;
  int (*function)(int argc, char** argv);
  const char* help; /* one line */
} mci_tool;

int mci_tool_info(int argc, char** argv);
int mci_tool_run(int argc, char** argv);
int mci_tool_run_agent(int argc, char** argv); /* started by `run` only; not listed */
int mci_tool_topo(int argc, char** argv);
int mci_tool_discover(int argc, char** argv); /* topo --discover */
int mci_tool_plan(int argc, char** argv);
int mci_tool_verify(int argc, char** argv);
int mci_tool_tune(int argc, char** argv);
int mci_tool_top(int argc, char** argv);
int mci_tool_version(int argc, char** argv);
#endif
