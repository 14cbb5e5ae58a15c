/* From a size in bytes to a line: the count argument of the call and the bytes that bandwidths are reckoned with. */
#include "perf/engine/perf.h"

enum { BLOCK_BYTES = 16 }; /* blocks per rank are rounded down to a multiple of this */

perf_line perf_line_of(const perf_program* program, meshcclDataType_t type, int op, int root, size_t bytes,
                       int nranks) {
  size_t element = perf_type_size(type), count = bytes / element, blocks = 1;
  if (program->send_blocks == PERF_PER_RANK || program->recv_blocks == PERF_PER_RANK) {
    blocks = (size_t)nranks;
    count = count / blocks / (BLOCK_BYTES / element) * (BLOCK_BYTES / element);
  }
  if (!program->send_blocks && !program->recv_blocks) count = 0;
  return (perf_line){type, op, root, count, count * element * blocks};
}
