/* Any text: refused with a message, or a topology that prints, parses back and prints the same. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "topo/graph.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

static void require(bool holds) {
  if (!holds) abort();
}

/* Grids of a million nodes with holes are legal and cost memory: they would only stop the fuzzer. */
static bool small(const uint8_t* data, size_t size) {
  unsigned digits = 0;
  for (size_t i = 0; i < size && data[i] != '@'; i++) digits += data[i] >= '0' && data[i] <= '9';
  return digits <= 6;
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (!small(data, size)) return 0;
  char* text = malloc(size + 1);
  mci_topo *topo, *back;
  mci_str first = {0}, second = {0};
  if (!text) return 0;
  memcpy(text, data, size);
  text[size] = 0;
  meshcclResult_t result = mci_topo_parse(text, &topo);
  free(text);
  if (result != meshcclSuccess) {
    require(mci_error_last()[0] != 0);
    return 0;
  }
  require(mci_topo_print(topo, &first) == meshcclSuccess);
  require(mci_topo_parse(first.text, &back) == meshcclSuccess);
  require(mci_topo_print(back, &second) == meshcclSuccess);
  require(strcmp(first.text, second.text) == 0);
  mci_str_fini(&first);
  mci_str_fini(&second);
  mci_topo_destroy(topo);
  mci_topo_destroy(back);
  return 0;
}
