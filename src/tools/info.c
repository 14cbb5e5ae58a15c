/* meshccl info: what this build is, what it finds on this machine, the algorithms it knows, and every variable with its
 * value and where the value comes from. As text, as JSON, or as the page docs/environment.md. */
#include "tools/info.h"

#include <stdio.h>
#include <string.h>

#include "device/device.h"
#include "kernels/kernels.h"
#include "meshccl/meshccl.h"
#include "tools/tools.h"

#define MOST_KERNELS 8

static const char usage[] =
    "usage: meshccl info [--json | --docs]\n"
    "\n"
    "Prints version, transports, kernels, devices, algorithms, and every variable with its value, source, default and\n"
    "meaning.\n"
    "\n"
    "  --json   the same as one JSON object\n"
    "  --docs   the page on variables, in Markdown\n";

typedef struct {
  mci_info_transport transports[MCI_MAX_PLUGINS];
  uint32_t ntransports, nkernels;
  const char* kernels[MOST_KERNELS];
  char problem[512]; /* with the variables; "" when there is none */
  char transport_problem[512];
} findings;

static void find_out(findings* f) {
  if (mci_params_check() != meshcclSuccess) snprintf(f->problem, sizeof f->problem, "%s", mci_error_last());
  f->ntransports = mci_info_transports(f->transports, f->transport_problem, sizeof f->transport_problem);
  f->nkernels = MCI_MIN(mci_kernels_available(f->kernels, MOST_KERNELS), MOST_KERNELS);
}

/* ---- text ---- */

static void text_transport(mci_str* out, const mci_info_transport* t) {
  mci_str_add(out, "  %-8s %s%s, ", t->name, t->builtin ? "built in" : "plugin",
              t->allowed ? "" : ", excluded by MESHCCL_TRANSPORTS");
  if (!t->usable) {
    mci_str_add(out, "not usable here: %s\n", t->reason);
    return;
  }
  const meshcclTransportFigures_t* f = &t->figures;
  mci_str_add(out, "usable: %llu ns, %.3g GB/s, payload up to %zu bytes%s%s\n", (unsigned long long)f->lat_ns,
              (double)f->bw_Bps / 1e9, f->maxPayload, f->flags & MESHCCL_CAN_MAP ? ", maps memory" : "",
              f->flags & MESHCCL_CAN_GET ? ", reads memory" : "");
}

static void text_variable(mci_str* out, mci_param_id id) {
  const mci_param_row* row = &mci_param_rows[id];
  const char* value = mci_param_text(id);
  char allowed[160];
  mci_param_allowed(row, allowed, sizeof allowed);
  mci_str_add(out, "  MESHCCL_%s = %s (%s)\n", row->name, value ? value : "",
              mci_param_is_set(id) ? "environment"
              : value              ? "default"
                                   : "unset");
  mci_str_add(out, "      %s\n      default %s; %s; %s\n", row->help, row->fallback ? row->fallback : "unset", allowed,
              row->shared ? "shared by all ranks" : "of each process");
}

static void print_text(const findings* f, mci_str* out) {
  mci_str_add(out, "meshccl %d.%d.%d\n\ntransports (figures towards a rank of the same process)\n", MESHCCL_MAJOR,
              MESHCCL_MINOR, MESHCCL_PATCH);
  for (uint32_t i = 0; i < f->ntransports; i++) text_transport(out, &f->transports[i]);
  mci_str_add(out, "\nkernels\n  in use: %s; available:", mci_kernels_in_use());
  for (uint32_t i = 0; i < f->nkernels; i++) mci_str_add(out, " %s", f->kernels[i]);
  mci_str_add(out, "\n\ndevices\n  %s     built in\n\nalgorithms\n", mci_device_host.name);
  mci_info_algorithms_text(out);
  mci_str_add(out, "\nvariables\n");
  for (int id = 0; id < MCI_NUM_PARAMS; id++) text_variable(out, (mci_param_id)id);
}

/* ---- JSON ---- */

static void json_text(mci_str* out, const char* key, const char* value, const char* end) {
  mci_str_add(out, "\"%s\": ", key);
  mci_str_json(out, value);
  mci_str_add(out, "%s", end);
}

static void json_flag(mci_str* out, const char* key, bool value, const char* end) {
  mci_str_add(out, "\"%s\": %s%s", key, value ? "true" : "false", end);
}

static void json_transport(mci_str* out, const mci_info_transport* t) {
  const meshcclTransportFigures_t* f = &t->figures;
  mci_str_add(out, "    {");
  json_text(out, "name", t->name, ", ");
  json_flag(out, "builtin", t->builtin, ", ");
  json_flag(out, "allowed", t->allowed, ", ");
  json_flag(out, "usable", t->usable, ", ");
  json_text(out, "reason", t->usable ? NULL : t->reason, "");
  if (t->usable) {
    mci_str_add(out, ", \"latency_ns\": %llu, \"bandwidth_Bps\": %llu, \"max_payload\": %zu, \"max_pieces\": %d, ",
                (unsigned long long)f->lat_ns, (unsigned long long)f->bw_Bps, f->maxPayload, f->maxPieces);
    json_flag(out, "can_map", f->flags & MESHCCL_CAN_MAP, ", ");
    json_flag(out, "can_get", f->flags & MESHCCL_CAN_GET, "");
  }
  mci_str_add(out, "}");
}

static void json_variable(mci_str* out, mci_param_id id) {
  const mci_param_row* row = &mci_param_rows[id];
  const char* value = mci_param_text(id);
  char name[64], allowed[160];
  snprintf(name, sizeof name, "MESHCCL_%s", row->name);
  mci_param_allowed(row, allowed, sizeof allowed);
  mci_str_add(out, "    {");
  json_text(out, "name", name, ", ");
  json_text(out, "value", value, ", ");
  json_text(out, "source", mci_param_is_set(id) ? "environment" : "default", ", ");
  json_text(out, "default", row->fallback, ", ");
  json_text(out, "allowed", allowed, ", ");
  json_flag(out, "shared", row->shared, ", ");
  json_text(out, "help", row->help, "}");
}

static void print_json(const findings* f, mci_str* out) {
  mci_str_add(out, "{\n  \"version\": \"%d.%d.%d\",\n  \"version_code\": %d,\n  \"transports\": [\n", MESHCCL_MAJOR,
              MESHCCL_MINOR, MESHCCL_PATCH, MESHCCL_VERSION_CODE);
  for (uint32_t i = 0; i < f->ntransports; i++) {
    json_transport(out, &f->transports[i]);
    mci_str_add(out, i + 1 < f->ntransports ? ",\n" : "\n");
  }
  mci_str_add(out, "  ],\n  \"kernels\": {\"in_use\": \"%s\", \"available\": [", mci_kernels_in_use());
  for (uint32_t i = 0; i < f->nkernels; i++) mci_str_add(out, "%s\"%s\"", i ? ", " : "", f->kernels[i]);
  mci_str_add(out, "]},\n  \"devices\": [{\"name\": \"%s\", \"builtin\": true}],\n  \"algorithms\": [\n",
              mci_device_host.name);
  mci_info_algorithms_json(out);
  mci_str_add(out, "  ],\n  \"variables\": [\n");
  for (int id = 0; id < MCI_NUM_PARAMS; id++) {
    json_variable(out, (mci_param_id)id);
    mci_str_add(out, id + 1 < MCI_NUM_PARAMS ? ",\n" : "\n");
  }
  mci_str_add(out, "  ],\n  ");
  json_text(out, "problem",
            f->problem[0]             ? f->problem
            : f->transport_problem[0] ? f->transport_problem
                                      : NULL,
            "\n}\n");
}

static int wrong_usage(const char* argument) {
  fprintf(stderr, "meshccl info: \"%s\" is left over\n\n%s", argument, usage);
  return 2;
}

int mci_tool_info(int argc, char** argv) {
  findings f = {0};
  const char* option = argc > 1 ? argv[1] : "";
  bool json = strcmp(option, "--json") == 0, docs = strcmp(option, "--docs") == 0;
  if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) {
    fputs(usage, stdout);
    return 0;
  }
  if (argc > 2 || (argc == 2 && !json && !docs)) return wrong_usage(argv[argc > 2 ? 2 : 1]);
  mci_str out = {0};
  if (docs) {
    mci_info_docs(&out);
  } else {
    find_out(&f);
    if (json)
      print_json(&f, &out);
    else
      print_text(&f, &out);
  }
  bool written = mci_str_result(&out) == meshcclSuccess && fputs(out.text, stdout) >= 0 && fflush(stdout) == 0;
  mci_str_fini(&out);
  if (f.problem[0]) fprintf(stderr, "meshccl info: %s\n", f.problem);
  if (f.transport_problem[0]) fprintf(stderr, "meshccl info: %s\n", f.transport_problem);
  return f.problem[0] || f.transport_problem[0] || !written;
}
