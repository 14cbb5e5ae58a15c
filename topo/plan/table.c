/* The visible table of families. Order matters: costs that are about equal go to the earlier row, so
 * what sends along links only, in an order made for them, comes first. */
#include "topo/plan/families.h"

const mci_family* const mci_families[] = {
    &mci_family_exchange,
    &mci_family_comb,
    &mci_family_grid,
    &mci_family_sweep,
    &mci_family_packing,
    &mci_family_arcs,
    &mci_family_ports,
    &mci_family_staged,
    &mci_family_hier,
    &mci_family_hier_ring,
    &mci_family_hier_tree,
    &mci_family_direct,
    &mci_family_bidir_ring,
    &mci_family_ring,
    &mci_family_tree,
    /* Baselines: what others do, for comparison and where they are best. */
    &mci_family_halving_doubling,
    &mci_family_recursive_doubling,
    &mci_family_swing,
    &mci_family_double_tree,
    &mci_family_ham_rings,
    &mci_family_torus_2d,
    NULL,
};
