/* Any bytes as a machine file: refused with a message that names the file, or a topology whose machine text means the
 * same and prints the same. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "topo/machine.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

static void require(bool holds) {
  if (!holds) abort();
}

/* Machines of millions of nodes with lists are legal and cost memory: they would only stop the fuzzer. Long numbers are
 * left in where they cannot mean many nodes. */
static bool small(const uint8_t* data, size_t size) {
  unsigned digits = 0, run = 0;
  for (size_t i = 0; i < size; i++) {
    run = data[i] >= '0' && data[i] <= '9' ? run + 1 : 0;
    digits += run >= 4;
  }
  return digits <= 2;
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mci_topo *topo, *back;
  mci_str first = {0}, second = {0};
  if (!small(data, size)) return 0;
  if (mci_machine_parse((const char*)data, size, "fuzzed", &topo) != meshcclSuccess) {
    require(strstr(mci_error_last(), "fuzzed") != NULL);
    return 0;
  }
  require(mci_machine_print(topo, &first) == meshcclSuccess);
  require(mci_machine_parse(first.text, first.length, "printed", &back) == meshcclSuccess);
  require(mci_machine_print(back, &second) == meshcclSuccess);
  require(strcmp(first.text, second.text) == 0);
  mci_str_fini(&first);
  mci_str_fini(&second);
  mci_topo_destroy(topo);
  mci_topo_destroy(back);
  return 0;
}
