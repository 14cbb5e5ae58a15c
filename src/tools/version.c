/* meshccl version: the version of the program and of the public headers it was built with. */
#include <stdio.h>

#include "meshccl/meshccl.h"
#include "tools/tools.h"

int mci_tool_version(int argc, char** argv) {
  if (argc > 1) {
    fprintf(stderr, "meshccl version takes no argument \"%s\"\n", argv[1]);
    return 2;
  }
  printf("meshccl %d.%d.%d\n", MESHCCL_MAJOR, MESHCCL_MINOR, MESHCCL_PATCH);
  return 0;
}
