/* meshccl topologies: build one from text, ask it questions, and learn what no schedule on it can beat. Works without a
 * communicator, for machines of any size: nothing here starts a rank or opens a socket.
 *
 *   ring:8   line:5   mesh:5x5   torus:4x4x4   full:4
 *   torus:4x4@50GB/s,500ns        mesh:5x5@2TB/s,100ns,dead=2.3+4.1,cut=0.0-0.1
 *
 * The text is described in docs/topology-format.md. Coordinates are given slowest dimension first (row, column).
 *
 * A topology is never changed by a question; any number of threads may ask at once. It may be destroyed when nobody asks
 * any more. Every function returns InvalidArgument with a message (meshcclGetLastError(NULL)) for NULL or out-of-range
 * arguments and SystemError when memory runs out; outputs are written on success only. */
#ifndef MESHCCL_TOPO_H
#define MESHCCL_TOPO_H

#include <stddef.h>

#include "meshccl/result.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct meshcclTopo* meshcclTopo_t;

#pragma GCC visibility push(default)

/* Reads a topology: a spec, the path of a machine file (docs/machine-format.md; it has a '/' or ends in .yaml or .yml), or
 * the name of an installed machine such as dojo-tray. A mistake is InvalidArgument; the message names the text or file,
 * the place and the remedy. */
meshcclResult_t meshcclTopoParse(meshcclTopo_t* topo, const char* spec);

/* Frees a topology; NULL is allowed. */
meshcclResult_t meshcclTopoDestroy(meshcclTopo_t topo);

/* Writes the canonical text, which meshcclTopoParse reads back to the same topology. *needed (may be NULL) becomes the
 * bytes that the text takes with its final NUL, also when `size` is too small: then the result is InvalidArgument and
 * `text` is untouched. size 0 with text NULL only asks. */
meshcclResult_t meshcclTopoPrint(meshcclTopo_t topo, char* text, size_t size, size_t* needed);

/* Writes a drawing of a grid of one or two dimensions and at most 40 columns, otherwise "". Sizes as meshcclTopoPrint. */
meshcclResult_t meshcclTopoDraw(meshcclTopo_t topo, char* text, size_t size, size_t* needed);

/* Number of ranks: live nodes. */
meshcclResult_t meshcclTopoCount(meshcclTopo_t topo, int* count);

/* Sides of the grid, and per dimension whether it closes to a ring (a side of 2 never does). sides and wraps may be NULL.
 * *ndims is their capacity on entry (MESHCCL_MAX_DIMS of meshccl.h, 4, is always enough) and the number of dimensions on
 * return; 0 for a full graph. */
meshcclResult_t meshcclTopoDims(meshcclTopo_t topo, int* sides, int* wraps, int* ndims);

/* Coordinates of a rank; *ndims as above. */
meshcclResult_t meshcclTopoCoordinates(meshcclTopo_t topo, int rank, int* coords, int* ndims);

/* The rank at coordinates; -1 where a node is dead or no rank. ndims must be the topology's. */
meshcclResult_t meshcclTopoRankAt(meshcclTopo_t topo, const int* coords, int ndims, int* rank);

/* Ranks at the other ends of a rank's own links; those beyond a switch (plane=) are not listed. *n is the capacity of
 * peers on entry and the number of neighbours on return; at most the capacity is written. */
meshcclResult_t meshcclTopoNeighbors(meshcclTopo_t topo, int rank, int* peers, int* n);

/* Hops of the shortest route between two ranks; -1 when there is none. */
meshcclResult_t meshcclTopoHops(meshcclTopo_t topo, int a, int b, int* hops);

/* A lower bound on the time of a collective ("all_reduce", "broadcast", ...): *us is the largest of the time that the
 * bytes need on the worst cut, the time that the farthest rank needs, and where every rank handles the whole vector, the
 * delay of the longest way plus the time of the vector over the links at its end; *factor is the first in units of bytes
 * / link rate, so that 1 / factor is the best algorithm bandwidth in link rates. Either may be NULL.
 * bytes: the whole vector. All-reduce, broadcast, reduce: count * size of the type; the others: ranks * count * size;
 * all-to-all: what one rank sends, its own block included. root matters to collectives that have one.
 * Cost: closed form on whole grids; with dead nodes or cut links up to a second for 4096 ranks, cheap bounds beyond. */
meshcclResult_t meshcclTopoBound(meshcclTopo_t topo, const char* collective, size_t bytes, int root, double* us,
                                 double* factor);

/* Writes a table of the algorithms for a collective, best first: predicted time, share of the bound, longest chain of
 * messages, and why others do not apply; '*' marks the one that would run. Rooted collectives take rank 0; what
 * MESHCCL_ACCUMULATE asks of 16- and 8-bit floats holds for all reductions. bytes as meshcclTopoBound, sizes of the
 * text as meshcclTopoPrint. Nothing is built: cost does not grow with the machine. */
meshcclResult_t meshcclPlanExplain(meshcclTopo_t topo, const char* collective, size_t bytes, char* text, size_t size,
                                   size_t* needed);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
