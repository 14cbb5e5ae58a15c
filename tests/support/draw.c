#include "support/draw.h"

#include "support/test.h"

mci_topo* test_draw_mesh(uint32_t rows, uint32_t columns, const char* options, uint32_t ndead, uint64_t* random,
                         char* spec, size_t size) {
  uint32_t dead[3];
  assert_true(ndead <= MCI_COUNT(dead));
  for (;;) {
    int length = snprintf(spec, size, "mesh:%ux%u@%s%s", rows, columns, options, ndead ? ",dead=" : "");
    bool twice = false;
    for (uint32_t i = 0; i < ndead; i++) {
      dead[i] = (uint32_t)(test_random(random) % (rows * columns));
      for (uint32_t k = 0; k < i; k++) twice = twice || dead[k] == dead[i];
      length +=
          snprintf(spec + length, size - (size_t)length, "%s%u.%u", i ? "+" : "", dead[i] / columns, dead[i] % columns);
    }
    if (twice) continue;
    mci_topo* topo;
    check_ok(mci_topo_parse(spec, &topo));
    if (mci_topo_connected(topo)) return topo;
    mci_topo_destroy(topo);
  }
}
