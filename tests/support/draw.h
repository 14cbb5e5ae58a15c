/* Meshes with dead dies at random places. */
#ifndef MCI_TEST_DRAW_H
#define MCI_TEST_DRAW_H

#include "topo/graph.h"

/* A mesh of rows x columns with ndead (at most 3) dead dies; `options` are put in front of them, such as "0ns". A draw
 * that names a die twice or cuts the mesh apart is drawn again. Sets spec. */
mci_topo* test_draw_mesh(uint32_t rows, uint32_t columns, const char* options, uint32_t ndead, uint64_t* random,
                         char* spec, size_t size);
#endif
