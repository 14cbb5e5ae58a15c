/* A program made ready to be run: the state of its channels, allocated once and used for every operation. */
#include "exec/engine.h"

static uint32_t most_operands(const mci_channel* channel) {
  uint32_t most = 1;
  for (uint32_t i = 0; i < channel->ninstrs; i++)
    most = MCI_MAX(most, (uint32_t)channel->instrs[i].ndst + channel->instrs[i].nsrc);
  return most;
}

/* Destinations that one fold writes at most: local ones, and rooms of copied messages. */
static uint32_t written_destinations(const mci_channel* channel, const mci_instr* instr) {
  uint32_t local = 0, copied = 0;
  for (uint32_t k = 0; k < instr->ndst; k++) {
    const mci_operand* operand = &channel->operands[instr->operands + k];
    local += operand->kind != MCI_LANE;
    copied += operand->kind == MCI_LANE && (operand->flags & MCI_COPY);
  }
  return local ? local + copied : 0;
}

static meshcclResult_t check_limits(const mci_program* program) {
  for (uint32_t c = 0; c < program->nchannels; c++) {
    const mci_channel* channel = &program->channels[c];
    for (uint32_t i = 0; i < channel->ninstrs; i++) {
      const mci_instr* instr = &channel->instrs[i];
      if (instr->nsrc > MESHCCL_MAX_FOLD_SOURCES || instr->ndst > MESHCCL_MAX_FOLD_SOURCES ||
          written_destinations(channel, instr) > MESHCCL_MAX_FOLD_DESTINATIONS)
        MCI_FAIL(meshcclNotSupported,
                 "channel %u has a step with %u destinations and %u sources, at most %d are supported", channel->id,
                 instr->ndst, instr->nsrc, MESHCCL_MAX_FOLD_SOURCES);
    }
  }
  return meshcclSuccess;
}

static bool rereads_output(const mci_program* program) {
  for (uint32_t c = 0; c < program->nchannels; c++) {
    const mci_channel* channel = &program->channels[c];
    for (uint32_t i = 0; i < channel->ninstrs; i++) {
      const mci_instr* instr = &channel->instrs[i];
      for (uint32_t k = 0; k < instr->nsrc; k++)
        if (channel->operands[instr->operands + instr->ndst + k].kind == MCI_OUT) return true;
    }
  }
  return false;
}

meshcclResult_t mci_run_create(mci_program* program, mci_run** out) {
  MCI_TRY(check_limits(program));
  mci_run* run = mci_alloc(sizeof *run);
  if (!run) return mci_oom(sizeof *run);
  run->channels = mci_alloc(program->nchannels * sizeof *run->channels);
  if (!run->channels) goto err_run;
  for (uint32_t c = 0; c < program->nchannels; c++) {
    mci_chan* chan = &run->channels[c];
    chan->channel = &program->channels[c];
    chan->operands = mci_alloc(most_operands(chan->channel) * sizeof *chan->operands);
    if (!chan->operands) goto err_channels;
    if (mci_brief_create(chan->channel, &chan->brief) != meshcclSuccess) goto err_channels;
  }
  run->program = program;
  run->rereads_output = rereads_output(program);
  *out = run;
  return meshcclSuccess;

err_channels:
  for (uint32_t c = 0; c < program->nchannels; c++) {
    mci_free(run->channels[c].operands);
    mci_free(run->channels[c].brief);
  }
  mci_free(run->channels);
err_run:
  mci_free(run);
  return mci_oom(program->nchannels * sizeof(mci_chan));
}

void mci_run_destroy(mci_run* run) {
  if (!run) return;
  for (uint32_t c = 0; c < run->program->nchannels; c++) {
    mci_free(run->channels[c].operands);
    mci_free(run->channels[c].brief);
    mci_free(run->channels[c].tokens);
  }
  mci_free(run->channels);
  mci_program_destroy(run->program);
  mci_free(run);
}

bool mci_run_busy(const mci_run* run) { return run->pins > 0; }
void mci_run_hold(mci_run* run) { run->pins++; }
void mci_run_release(mci_run* run) { run->pins--; }
const mci_program* mci_run_program(const mci_run* run) { return run->program; }
