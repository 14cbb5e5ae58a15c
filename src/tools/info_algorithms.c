/* The planner's algorithms for `meshccl info` and docs/environment.md, from its table of families. */
#include "sched/sched.h"
#include "tools/info.h"
#include "topo/plan/plan.h"

static void add_colls(const mci_family* family, const char* before, const char* between, const char* after,
                      mci_str* out) {
  const char* separator = "";
  for (int coll = 0; coll < MCI_SEND_RECV; coll++) {
    if (!(family->colls >> coll & 1)) continue;
    mci_str_add(out, "%s%s%s%s", separator, before, mci_coll_name((mci_coll)coll), after);
    separator = between;
  }
}

void mci_info_algorithms_text(mci_str* out) {
  for (const mci_family* const* family = mci_families; *family; family++) {
    mci_str_add(out, "  %-18s %s\n                     ", (*family)->name, (*family)->summary);
    add_colls(*family, "", " ", "", out);
    mci_str_add(out, "\n");
  }
}

void mci_info_algorithms_json(mci_str* out) {
  for (const mci_family* const* family = mci_families; *family; family++) {
    mci_str_add(out, "    {\"name\": \"%s\", \"summary\": ", (*family)->name);
    mci_str_json(out, (*family)->summary);
    mci_str_add(out, ", \"collectives\": [");
    add_colls(*family, "\"", ", ", "\"", out);
    mci_str_add(out, "]}%s\n", family[1] ? "," : "");
  }
}

void mci_info_algorithms_docs(mci_str* out) {
  mci_str_add(out, "\n| algorithm | what it does | collectives |\n|---|---|---|\n");
  for (const mci_family* const* family = mci_families; *family; family++) {
    mci_str_add(out, "| `%s` | %s | ", (*family)->name, (*family)->summary);
    add_colls(*family, "", ", ", "", out);
    mci_str_add(out, " |\n");
  }
  mci_str_add(out,
              "\nWhere it is not forced, the one with the least predicted time is taken; `meshccl plan` shows all that "
              "apply to a\ntopology, and why others do not.\n");
}
