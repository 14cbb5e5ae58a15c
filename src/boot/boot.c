/* The public functions of the control tree that a communicator calls while it lives: messages, reports, status, sleep
 * and farewell. Each takes the lock and hands on to control.c and depart.c. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/globals.h"
#include "boot/control.h"

static bool usable(const mci_boot* boot) { return boot->generation == mci_fork_generation(); }

void mci_boot_leave(mci_boot* boot) {
  /* In a forked child the connections are the parent's; the memory stays reachable through the service. */
  if (!boot || !usable(boot)) return;
  mci_service_remove(boot);
  pthread_mutex_lock(&boot->lock);
  mci_depart(boot);
  pthread_mutex_unlock(&boot->lock);
  mci_control_destroy(boot);
}

bool mci_boot_spans(const mci_boot* boot) { return boot->spans; }

meshcclResult_t mci_boot_send(mci_boot* boot, int to, uint16_t kind, const void* data, size_t bytes) {
  MCI_TRY(mci_control_usable(boot));
  if (to < 0 || to >= boot->nranks)
    MCI_FAIL(meshcclInvalidArgument, "a message to rank %d; ranks are 0 to %d", to, boot->nranks - 1);
  if (bytes > MCI_BOOT_MESSAGE_MAX)
    MCI_FAIL(meshcclInvalidArgument, "a control message of %zu bytes; at most %d fit", bytes, MCI_BOOT_MESSAGE_MAX);
  mci_header header = {.type = FRAME_MESSAGE, .kind = kind, .from = boot->rank, .to = to, .bytes = (uint32_t)bytes};
  meshcclResult_t result = meshcclSuccess;
  pthread_mutex_lock(&boot->lock);
  if (to == boot->rank) {
    result = mci_frames_push(&boot->inbox, &header, data);
    if (result == meshcclSuccess) mci_control_arrived(boot);
  } else {
    mci_control_link* link = mci_control_towards(boot, to);
    if (link) result = mci_control_link_send(link, &header, data);
  }
  pthread_mutex_unlock(&boot->lock);
  return result;
}

bool mci_boot_receive(mci_boot* boot, mci_boot_message* out) {
  if (!usable(boot)) return false;
  pthread_mutex_lock(&boot->lock);
  mci_frame* frame = mci_frames_pop(&boot->inbox);
  pthread_mutex_unlock(&boot->lock);
  if (!frame) return false;
  out->from = frame->header.from;
  out->kind = frame->header.kind;
  out->bytes = frame->header.bytes;
  memcpy(out->data, frame->data, frame->header.bytes);
  mci_free(frame);
  return true;
}

void mci_boot_report(mci_boot* boot, int rank, meshcclResult_t result, const char* text) {
  if (!usable(boot)) return;
  mci_verdict verdict = {.rank = rank, .result = result};
  snprintf(verdict.text, sizeof verdict.text, "%s", text);
  pthread_mutex_lock(&boot->lock);
  mci_control_fail(boot, &verdict);
  pthread_mutex_unlock(&boot->lock);
}

meshcclResult_t mci_boot_status(mci_boot* boot, char* text, size_t size) {
  if (size > 0) text[0] = 0;
  MCI_TRY(mci_control_usable(boot));
  pthread_mutex_lock(&boot->lock);
  meshcclResult_t result = (meshcclResult_t)boot->failure.result;
  if (result != meshcclSuccess && size > 0) snprintf(text, size, "%s", boot->failure.text);
  pthread_mutex_unlock(&boot->lock);
  return result;
}

const _Atomic uint32_t* mci_boot_attention(mci_boot* boot) { return &boot->attention; }

int mci_boot_fd(mci_boot* boot) { return boot->threadless ? boot->epoll_fd : boot->attention_fd; }

void mci_boot_clear(mci_boot* boot) {
  if (!usable(boot)) return;
  uint64_t count;
  pthread_mutex_lock(&boot->lock);
  if (boot->attention_shown) boot->attention_shown = read(boot->attention_fd, &count, sizeof count) < 0;
  pthread_mutex_unlock(&boot->lock);
}

void mci_boot_progress(mci_boot* boot) {
  if (!boot->threadless || !usable(boot)) return;
  pthread_mutex_lock(&boot->lock);
  mci_control_progress(boot);
  pthread_mutex_unlock(&boot->lock);
}
