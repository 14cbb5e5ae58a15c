/* `meshccl topo SPEC`: checks a topology, describes it, draws it and tabulates what no schedule on it can beat; with
 * damage also what the damage costs. Starts no rank. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/topology.h"
#include "tools/tools.h"
#include "topo/advice.h"
#include "topo/bounds.h"
#include "topo/graph.h"
#include "topo/machine.h"

#define DRAWN_UNASKED 16 /* sides up to which a grid is drawn without --draw */

typedef struct {
  const char* spec;
  const char* bytes_text;
  bool json, draw, yaml;
  uint64_t bytes;
  uint32_t root;
} topo_options;

typedef struct {
  mci_bound now, healthy; /* healthy: only with damage */
} bound_row;

static const char usage[] =
    "usage: meshccl topo SPEC [--bytes SIZE] [--root R] [--draw] [--json] [--yaml]\n"
    "       meshccl topo --discover [--hosts LIST]   prints a topology for this machine or for a list of hosts\n"
    "  SPEC          such as torus:4x4@50GB/s,500ns or mesh:5x5@dead=2.3 (docs/topology-format.md), or a machine: the\n"
    "                path of its file (docs/machine-format.md) or its name, such as dojo-tray\n"
    "  --bytes SIZE  whole vector of the example column: 8, 64K, 1M (default), 2G\n"
    "  --root R      rank that rooted collectives start or end at (default 0)\n"
    "  --draw        draw grids with sides above 16 too, up to 40 columns; with --json as a string\n"
    "  --json        one JSON object\n"
    "  --yaml        the topology as a machine file, and nothing else\n"
    "exit status: 0; 1 when the topology is in pieces or something failed; 2 for mistakes\n";

static meshcclResult_t read_root(const char* text, uint32_t* root) {
  char* end;
  unsigned long value = strtoul(text, &end, 10);
  if (*text < '0' || *text > '9' || *end || value > UINT32_MAX)
    MCI_FAIL(meshcclInvalidArgument, "--root \"%s\" is not a rank; write a number such as 0", text);
  *root = (uint32_t)value;
  return meshcclSuccess;
}

static meshcclResult_t read_options(int argc, char** argv, topo_options* o) {
  for (int i = 1; i < argc; i++) {
    const char* word = argv[i];
    bool takes_value = strcmp(word, "--bytes") == 0 || strcmp(word, "--root") == 0;
    if (takes_value && i + 1 == argc) MCI_FAIL(meshcclInvalidArgument, "%s lacks its value", word);
    if (strcmp(word, "--json") == 0) {
      o->json = true;
    } else if (strcmp(word, "--yaml") == 0) {
      o->yaml = true;
    } else if (strcmp(word, "--draw") == 0) {
      o->draw = true;
    } else if (strcmp(word, "--bytes") == 0) {
      o->bytes_text = argv[++i];
      MCI_TRY(mci_parse_size(o->bytes_text, "--bytes", &o->bytes));
    } else if (strcmp(word, "--root") == 0) {
      MCI_TRY(read_root(argv[++i], &o->root));
    } else if (word[0] == '-' || o->spec) {
      MCI_FAIL(meshcclInvalidArgument, "unexpected argument \"%s\"", word);
    } else {
      o->spec = word;
    }
  }
  if (!o->spec) MCI_FAIL(meshcclInvalidArgument, "a topology is missing, such as torus:4x4");
  return meshcclSuccess;
}

static bool damaged(const mci_topo* topo) { return mci_topo_ndead(topo) > 0 || mci_topo_ncut(topo) > 0; }

/* The same node in the undamaged topology; ranks differ where nodes are missing. */
static uint32_t same_node(const mci_topo* topo, uint32_t rank, const mci_topo* other) {
  uint32_t coords[MCI_MAX_DIMS];
  mci_topo_coords(topo, rank, coords);
  return (uint32_t)mci_topo_rank_at(other, coords);
}

static meshcclResult_t compute_bounds(const mci_topo* topo, const topo_options* o, bound_row rows[MCI_SEND_RECV]) {
  for (int coll = 0; coll < MCI_SEND_RECV; coll++)
    MCI_TRY(mci_bound_of(topo, (mci_coll)coll, o->bytes, o->root, &rows[coll].now));
  if (!damaged(topo)) return meshcclSuccess;
  mci_topo* healthy;
  MCI_TRY(mci_topo_healthy(topo, &healthy));
  uint32_t root = same_node(topo, o->root, healthy);
  meshcclResult_t result = meshcclSuccess;
  for (int coll = 0; coll < MCI_SEND_RECV && result == meshcclSuccess; coll++)
    result = mci_bound_of(healthy, (mci_coll)coll, o->bytes, root, &rows[coll].healthy);
  mci_topo_destroy(healthy);
  return result;
}

/* Time lost against the undamaged topology, in percent of its bound. */
static double loss(const bound_row* row) {
  double healthy = (double)row->healthy.bound_ps;
  return healthy > 0 ? ((double)row->now.bound_ps / healthy - 1) * 100 : 0;
}

static meshcclResult_t drawing(const mci_topo* topo, bool asked, mci_str* out) {
  bool small = true;
  for (uint32_t d = 0; d < mci_topo_ndims(topo); d++) small = small && mci_topo_side(topo, d) <= DRAWN_UNASKED;
  if (!small && !asked) return meshcclSuccess;
  return mci_topo_draw(topo, out);
}

/* ---- for people ---- */

static void text_link(mci_link link, mci_str* out) {
  mci_str_add(out, "%.6g GB/s, %.6g ns", (double)link.bw_Bps * 1e-9, (double)link.lat_ps * 1e-3);
  if (link.cost_ps) mci_str_add(out, ", %.6g ns per message", (double)link.cost_ps * 1e-3);
}

static void group_sizes(const mci_topo* topo, uint32_t level, uint32_t* low, uint32_t* high) {
  *low = UINT32_MAX;
  *high = 0;
  for (uint32_t g = 0; g < mci_topo_ngroups(topo, level); g++) {
    uint32_t size = mci_topo_group_size(topo, level, g);
    *low = MCI_MIN(*low, size);
    *high = MCI_MAX(*high, size);
  }
}

static void text_levels(const mci_topo* topo, mci_str* out) {
  for (uint32_t l = 0; l < mci_topo_nlevels(topo); l++) {
    uint32_t low, high, groups = mci_topo_ngroups(topo, l);
    group_sizes(topo, l, &low, &high);
    mci_str_add(out, "level       %s: %u group%s of %u", mci_topo_level_name(topo, l), groups, groups > 1 ? "s" : "",
                low);
    mci_str_add(out, low < high ? " to %u ranks" : " ranks", high);
    if (groups > 1) {
      mci_str_add(out, ", between them ");
      text_link(mci_topo_class(topo, l + 1), out);
    }
    mci_str_add(out, "\n");
  }
  for (uint32_t p = 0; p < mci_topo_nplanes(topo); p++) {
    mci_str_add(out, "plane       %s: a switch with %u ports, ", mci_topo_plane_name(topo, p),
                mci_topo_plane_size(topo, p));
    text_link(mci_topo_plane_link(topo, p), out);
    mci_str_add(out, "\n");
  }
}

static void text_shape(const mci_topo* topo, mci_str* out) {
  uint32_t n = mci_topo_ndims(topo), low, high;
  mci_link link = mci_topo_link(topo);
  mci_topo_degrees(topo, &low, &high);
  mci_str_add(out, "ranks       %u%s\n", mci_topo_nranks(topo),
              mci_topo_is_mapped(topo) ? ", in the order of map=" : "");
  mci_str_add(out, "dimensions  ");
  for (uint32_t d = 0; d < n; d++)
    mci_str_add(out, "%s%u %s", d ? " x " : "", mci_topo_side(topo, d), mci_topo_wraps(topo, d) ? "(ring)" : "(open)");
  mci_str_add(out, "%s\n", n ? "" : "none: every pair has a link");
  if (damaged(topo))
    mci_str_add(out, "damage      %u dead nodes, %u cut links\n", mci_topo_ndead(topo), mci_topo_ncut(topo));
  mci_str_add(out, "links       %llu, %.6g GB/s in each direction, %.6g ns per hop, %.6g ns per message\n",
              (unsigned long long)mci_topo_nlinks(topo), (double)link.bw_Bps * 1e-9, (double)link.lat_ps * 1e-3,
              (double)link.cost_ps * 1e-3);
  text_levels(topo, out);
  mci_str_add(out, "neighbours  %u", low);
  mci_str_add(out, low < high ? " to %u per rank\n" : " per rank\n", high);
  if (mci_topo_connected(topo)) mci_str_add(out, "diameter    %u hops\n", mci_topo_diameter(topo));
  mci_str_add(out, "messages    %s\n", mci_topo_routed(topo) ? "between any pair, routed" : "between neighbours only");
}

static void text_bounds(const mci_topo* topo, const topo_options* o, const bound_row* rows, mci_str* out) {
  bool compare = damaged(topo);
  mci_str_add(out, "\nLower bounds; the times are for %s bytes, root %u.\n", o->bytes_text, o->root);
  mci_str_add(out, "%-15s %11s %6s %14s %12s %14s %14s%s\n", "collective", "factor", "exact", "bandwidth us",
              "latency us", "combined us", "bound us", compare ? "  healthy us    loss" : "");
  for (int coll = 0; coll < MCI_SEND_RECV; coll++) {
    const mci_bound* b = &rows[coll].now;
    mci_str_add(out, "%-15s %11.6g %6s %14.3f %12.3f %14.3f %14.3f", mci_coll_name((mci_coll)coll), b->factor,
                b->exact ? "yes" : "no", (double)b->bandwidth_ps * 1e-6, (double)b->latency_ps * 1e-6,
                (double)b->combined_ps * 1e-6, (double)b->bound_ps * 1e-6);
    if (compare) mci_str_add(out, " %11.3f %+6.1f%%", (double)rows[coll].healthy.bound_ps * 1e-6, loss(&rows[coll]));
    mci_str_add(out, "\n");
  }
  mci_str_add(
      out,
      "factor: least bytes over the worst cut, in units of the vector; combined: the longest way, then the vector\n"
      "over the links at its end; bound = max(bandwidth, latency, combined).\n");
  if (compare)
    mci_str_add(out, "healthy, loss: the same grid without damage, and how much longer the bound has become.\n");
}

static meshcclResult_t text_report(const mci_topo* topo, const topo_options* o, const bound_row* rows, mci_str* out) {
  MCI_TRY(mci_topo_print(topo, out));
  mci_str_add(out, "\n");
  text_shape(topo, out);
  MCI_TRY(mci_topo_advice(topo, out));
  mci_str picture = {0};
  meshcclResult_t result = drawing(topo, o->draw, &picture);
  if (picture.length > 0) {
    mci_str_add(out, "\n%s", picture.text);
  } else if (o->draw) {
    mci_str_add(out, "\n(drawn are grids of one or two dimensions, up to 40 columns and 100 rows)\n");
  }
  mci_str_fini(&picture);
  if (rows) text_bounds(topo, o, rows, out);
  return result;
}

/* ---- for programs ---- */

static void json_link(mci_link link, mci_str* out) {
  mci_str_add(out, "\"bandwidth_Bps\":%llu,\"latency_ps\":%llu,\"cost_ps\":%llu}", (unsigned long long)link.bw_Bps,
              (unsigned long long)link.lat_ps, (unsigned long long)link.cost_ps);
}

static void json_levels(const mci_topo* topo, mci_str* out) {
  for (uint32_t l = 0; l < mci_topo_nlevels(topo); l++) {
    mci_str_add(out, "%s{\"name\":\"%s\",\"groups\":%u,", l ? "," : ",\"levels\":[", mci_topo_level_name(topo, l),
                mci_topo_ngroups(topo, l));
    json_link(mci_topo_class(topo, l + 1), out);
  }
  if (mci_topo_nlevels(topo)) mci_str_add(out, "]");
  for (uint32_t p = 0; p < mci_topo_nplanes(topo); p++) {
    mci_str_add(out, "%s{\"name\":\"%s\",\"ports\":%u,", p ? "," : ",\"planes\":[", mci_topo_plane_name(topo, p),
                mci_topo_plane_size(topo, p));
    json_link(mci_topo_plane_link(topo, p), out);
  }
  if (mci_topo_nplanes(topo)) mci_str_add(out, "]");
}

static void json_shape(const mci_topo* topo, mci_str* out) {
  uint32_t n = mci_topo_ndims(topo), low, high;
  mci_link link = mci_topo_link(topo);
  mci_topo_degrees(topo, &low, &high);
  mci_str_add(out, ",\"ranks\":%u,\"dims\":[", mci_topo_nranks(topo));
  for (uint32_t d = 0; d < n; d++) mci_str_add(out, "%s%u", d ? "," : "", mci_topo_side(topo, d));
  mci_str_add(out, "],\"wraps\":[");
  for (uint32_t d = 0; d < n; d++) mci_str_add(out, "%s%s", d ? "," : "", mci_topo_wraps(topo, d) ? "true" : "false");
  mci_str_add(out, "],\"dead\":%u,\"cut\":%u,\"links\":%llu,\"least_neighbours\":%u,\"most_neighbours\":%u",
              mci_topo_ndead(topo), mci_topo_ncut(topo), (unsigned long long)mci_topo_nlinks(topo), low, high);
  json_levels(topo, out);
  mci_str_add(out, ",\"bandwidth_Bps\":%llu,\"latency_ps\":%llu,\"cost_ps\":%llu", (unsigned long long)link.bw_Bps,
              (unsigned long long)link.lat_ps, (unsigned long long)link.cost_ps);
  bool connected = mci_topo_connected(topo);
  mci_str_add(out,
              ",\"routed\":%s,\"mapped\":%s,\"connected\":%s,\"diameter\":", mci_topo_routed(topo) ? "true" : "false",
              mci_topo_is_mapped(topo) ? "true" : "false", connected ? "true" : "false");
  mci_str_add(out, connected ? "%u" : "null", connected ? mci_topo_diameter(topo) : 0);
}

static void json_bounds(const mci_topo* topo, const topo_options* o, const bound_row* rows, mci_str* out) {
  mci_str_add(out, ",\"bytes\":%llu,\"root\":%u,\"bounds\":[", (unsigned long long)o->bytes, o->root);
  for (int coll = 0; coll < MCI_SEND_RECV; coll++) {
    const mci_bound* b = &rows[coll].now;
    mci_str_add(out, "%s{\"collective\":\"%s\",\"factor\":%.9g,\"exact\":%s", coll ? "," : "",
                mci_coll_name((mci_coll)coll), b->factor, b->exact ? "true" : "false");
    mci_str_add(out, ",\"bandwidth_us\":%.6f,\"latency_us\":%.6f,\"combined_us\":%.6f,\"bound_us\":%.6f",
                (double)b->bandwidth_ps * 1e-6, (double)b->latency_ps * 1e-6, (double)b->combined_ps * 1e-6,
                (double)b->bound_ps * 1e-6);
    if (damaged(topo))
      mci_str_add(out, ",\"healthy_factor\":%.9g,\"healthy_us\":%.6f,\"loss_percent\":%.3f", rows[coll].healthy.factor,
                  (double)rows[coll].healthy.bound_ps * 1e-6, loss(&rows[coll]));
    mci_str_add(out, "}");
  }
  mci_str_add(out, "]");
}

static meshcclResult_t json_report(const mci_topo* topo, const topo_options* o, const bound_row* rows, mci_str* out) {
  mci_str text = {0};
  meshcclResult_t result = mci_topo_print(topo, &text);
  mci_str_add(out, "{\"spec\":");
  mci_str_json(out, text.text);
  mci_str_fini(&text);
  json_shape(topo, out);
  if (result == meshcclSuccess && o->draw) {
    result = mci_topo_draw(topo, &text);
    mci_str_add(out, ",\"drawing\":");
    mci_str_json(out, text.text);
    mci_str_fini(&text);
  }
  if (rows) json_bounds(topo, o, rows, out);
  mci_str_add(out, "}\n");
  return result;
}

static meshcclResult_t print_machine(const mci_topo* topo) {
  mci_str out = {0};
  meshcclResult_t result = mci_machine_print(topo, &out);
  if (result == meshcclSuccess) fputs(out.text, stdout);
  mci_str_fini(&out);
  return result;
}

static meshcclResult_t report(const mci_topo* topo, const topo_options* o) {
  if (o->yaml) return print_machine(topo);
  bound_row rows[MCI_SEND_RECV];
  if (o->root >= mci_topo_nranks(topo))
    MCI_FAIL(meshcclInvalidArgument, "--root %u: the topology has ranks 0 to %u", o->root, mci_topo_nranks(topo) - 1);
  bool connected = mci_topo_connected(topo);
  if (connected) MCI_TRY(compute_bounds(topo, o, rows));
  mci_str out = {0};
  meshcclResult_t result = (o->json ? json_report : text_report)(topo, o, connected ? rows : NULL, &out);
  if (result == meshcclSuccess) result = mci_str_result(&out);
  if (result == meshcclSuccess) fputs(out.text, stdout);
  mci_str_fini(&out);
  return result;
}

int mci_tool_topo(int argc, char** argv) {
  for (int i = 1; i < argc; i++)
    if (strcmp(argv[i], "--discover") == 0) return mci_tool_discover(argc, argv);
  topo_options o = {.bytes = 1048576, .bytes_text = "1M"};
  if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
    fputs(usage, stdout);
    return 0;
  }
  if (read_options(argc, argv, &o) != meshcclSuccess) {
    fprintf(stderr, "meshccl topo: %s\n%s", mci_error_last(), usage);
    return 2;
  }
  mci_topo* topo = NULL;
  meshcclResult_t result = mci_topology_load(o.spec, &topo);
  if (result == meshcclSuccess) result = report(topo, &o);
  int status = 0;
  if (result != meshcclSuccess) {
    fprintf(stderr, "meshccl topo: %s\n", mci_error_last());
    status = result == meshcclInvalidArgument ? 2 : 1;
  } else if (!mci_topo_connected(topo)) {
    fprintf(stderr, "meshccl topo: the topology is in pieces: some ranks have no route to each other\n");
    status = 1;
  }
  mci_topo_destroy(topo);
  return status;
}
