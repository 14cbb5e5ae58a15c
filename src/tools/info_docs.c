/* docs/environment.md, from the table of variables, so that the page cannot disagree with the library. */
#include "tools/info.h"

static const char head[] =
    "# Environment variables\n"
    "\n"
    "This page is printed by `meshccl info --docs`. `meshccl info` shows the values in force, and whether each comes\n"
    "from the environment.\n"
    "\n"
    "A value that is not allowed makes the first communicator fail with a message that names the variable, the value\n"
    "and what is allowed; an unknown name that begins with `MESHCCL_` is warned of, with the nearest known one. A\n"
    "*shared* variable must have the same value on all ranks of a communicator: a difference is detected when it is\n"
    "made. Fields of `meshcclConfig_t` that are set win over the variable.\n"
    "\n"
    "## For users\n";

static const char tail[] =
    "\n"
    "## From launchers\n"
    "\n"
    "`meshccl run` sets `MESHCCL_RANK`, `MESHCCL_SIZE`, `MESHCCL_LOCAL_RANK`, `MESHCCL_LOCAL_SIZE` and `MESHCCL_ID` "
    "for\n"
    "each rank. Where they are missing, `meshcclCommInitEnv` reads what torchrun-like launchers, Open MPI, PMI or "
    "Slurm\n"
    "set. `MESHCCL_SECRET`, or the file that `MESHCCL_SECRET_FILE` names, is a secret that all "
    "ranks\n"
    "must share when the meeting point is not a secret by itself.\n"
    "\n"
    "## For tests\n"
    "\n"
    "`MESHCCL_TESTS_SEED` repeats a random test, `MESHCCL_TESTS_LONG=1` lets tests take minutes,\n"
    "`MESHCCL_TESTS_JOBS` is the number of tests at a time in `tests/run.sh`.\n";

static void add_values(mci_str* out, const char* values) {
  for (; *values; values++) mci_str_add(out, *values == '|' ? "`, `" : "%c", *values);
}

void mci_info_docs(mci_str* out) {
  mci_str_add(out, "%s", head);
  for (int id = 0; id < MCI_NUM_PARAMS; id++) {
    const mci_param_row* row = &mci_param_rows[id];
    char allowed[160];
    mci_param_allowed(row, allowed, sizeof allowed);
    mci_str_add(out, "\n### MESHCCL_%s\n\n%s\n\n", row->name, row->help);
    if (row->fallback)
      mci_str_add(out, "Default: `%s`. ", row->fallback);
    else
      mci_str_add(out, "Default: unset. ");
    if (row->type == MCI_PARAM_ENUM) {
      mci_str_add(out, "Allowed: `");
      add_values(out, row->values);
      mci_str_add(out, "`. ");
    } else {
      mci_str_add(out, "Allowed: %s. ", allowed);
    }
    mci_str_add(out, "%s\n", row->shared ? "Shared." : "Of each process.");
    if (id == MCI_P_ALGO) mci_info_algorithms_docs(out);
  }
  mci_str_add(out, "%s", tail);
}
