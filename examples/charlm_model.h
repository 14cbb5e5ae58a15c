/* A small character-level language model: the next character from the last CONTEXT ones, through an embedding, hidden
 * layers with tanh and a softmax. Plain C on one thread; knows nothing of communication, but says when the gradients of
 * a layer are complete, so that a training loop can send them while the backward pass goes on. */
#ifndef CHARLM_MODEL_H
#define CHARLM_MODEL_H

#include <stddef.h>

enum { CHARLM_VOCABULARY = 97, CHARLM_CONTEXT = 16, CHARLM_EMBEDDING = 24, CHARLM_HIDDEN = 192, CHARLM_DEPTH = 3 };
enum { CHARLM_LAYERS = CHARLM_DEPTH + 2 }; /* embedding, hidden ones, output */

typedef struct charlm charlm;

/* `batch`: samples per step on this rank. The same seed gives the same weights everywhere. NULL: out of memory. */
charlm* charlm_create(int batch, unsigned seed);
void charlm_destroy(charlm* model);

/* Weights and gradients are one array each. Layer l owns [offset, offset + size); the layers stand in the order in
 * which the backward pass finishes them: output first, embedding last. */
size_t charlm_parameters(const charlm* model);
void charlm_layer(const charlm* model, int layer, size_t* offset, size_t* size);
float* charlm_gradients(charlm* model);
/* The caller's array takes the place of the own gradients (memory that others can reach without a copy, say). */
void charlm_use_gradients(charlm* model, float* gradients);

/* Either may be NULL. */
typedef struct {
  void* arg;
  void (*layer_done)(void* arg, int layer); /* the gradients of layer 0, 1, ... are complete */
  void (*tick)(void* arg);                  /* called often during the passes */
} charlm_hooks;

/* Forward and backward on batch samples: sample i is text[starts[i] .. + CONTEXT], its last character the target.
 * Gradients are those of the sum of losses times `scale`. Returns the sum of losses (nats). */
double charlm_step(charlm* model, const unsigned char* text, const size_t* starts, float scale,
                   const charlm_hooks* hooks);

/* Gradient descent with momentum, on layer l only. */
void charlm_update(charlm* model, int layer, float rate, float momentum);

/* Maps a byte to 0..VOCABULARY-1: printable characters to themselves, line ends to one, all others to one. */
unsigned char charlm_symbol(unsigned char byte);
#endif
