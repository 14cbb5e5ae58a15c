/* The model of the training example: forward, backward, update. */
#include "charlm_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  int rows, columns;     /* weights: rows x columns (inputs x outputs), then `columns` biases */
  size_t offset;         /* in weights and gradients */
  float *input, *output; /* batch x rows, batch x columns; the output of one layer is the input of the next */
  float* delta;          /* batch x columns: derivative by the output */
} layer;

struct charlm {
  int batch;
  size_t parameters;
  float *weights, *gradients, *own_gradients, *velocity;
  layer layers[CHARLM_LAYERS]; /* 0 output, .., CHARLM_LAYERS-1 embedding */
  int* tokens;                 /* batch x (CONTEXT + 1) */
};

unsigned char charlm_symbol(unsigned char byte) {
  if (byte >= 32 && byte < 127) return (unsigned char)(byte - 32);
  return byte == '\n' ? 95 : 96;
}

static size_t layer_size(const layer* l, int index) {
  return (size_t)l->rows * (size_t)l->columns + (index == CHARLM_LAYERS - 1 ? 0 : (size_t)l->columns);
}

static void shape_layers(charlm* model) {
  for (int i = 0; i < CHARLM_LAYERS; i++) {
    layer* l = &model->layers[i];
    if (i == CHARLM_LAYERS - 1) {
      l->rows = CHARLM_VOCABULARY;
      l->columns = CHARLM_EMBEDDING;
    } else {
      l->columns = i == 0 ? CHARLM_VOCABULARY : CHARLM_HIDDEN;
      l->rows = i == CHARLM_DEPTH ? CHARLM_CONTEXT * CHARLM_EMBEDDING : CHARLM_HIDDEN;
    }
    l->offset = model->parameters;
    model->parameters += layer_size(l, i);
  }
}

/* A uniform number in [-1, 1). */
static float uniform(unsigned long long* state) {
  *state = *state * 6364136223846793005ull + 1442695040888963407ull;
  return (float)(int)(*state >> 33 & 0xffffff) / 8388608.0f - 1.0f;
}

static void set_weights(charlm* model, unsigned seed) {
  unsigned long long state = seed * 2654435761ull + 1;
  for (int i = 0; i < CHARLM_LAYERS; i++) {
    const layer* l = &model->layers[i];
    float spread = i == CHARLM_LAYERS - 1 ? 0.5f : sqrtf(1.5f / (float)l->rows);
    for (size_t k = 0; k < (size_t)l->rows * (size_t)l->columns; k++)
      model->weights[l->offset + k] = spread * uniform(&state);
  }
}

static float* floats(size_t n) { return calloc(n, sizeof(float)); }

charlm* charlm_create(int batch, unsigned seed) {
  charlm* model = calloc(1, sizeof *model);
  if (!model) return NULL;
  model->batch = batch;
  shape_layers(model);
  model->weights = floats(model->parameters);
  model->gradients = model->own_gradients = floats(model->parameters);
  model->velocity = floats(model->parameters);
  model->tokens = calloc((size_t)batch * (CHARLM_CONTEXT + 1), sizeof *model->tokens);
  int ok = model->weights && model->gradients && model->velocity && model->tokens;
  for (int i = CHARLM_LAYERS - 1; i >= 0; i--) {
    layer* l = &model->layers[i];
    size_t width = i == CHARLM_LAYERS - 1 ? CHARLM_CONTEXT * CHARLM_EMBEDDING : (size_t)l->columns;
    l->output = floats((size_t)batch * width);
    l->delta = floats((size_t)batch * width);
    l->input = i == CHARLM_LAYERS - 1 ? NULL : model->layers[i + 1].output;
    ok = ok && l->output && l->delta;
  }
  if (!ok) {
    charlm_destroy(model);
    return NULL;
  }
  set_weights(model, seed);
  return model;
}

void charlm_destroy(charlm* model) {
  if (!model) return;
  for (int i = 0; i < CHARLM_LAYERS; i++) {
    free(model->layers[i].output);
    free(model->layers[i].delta);
  }
  free(model->weights);
  free(model->own_gradients);
  free(model->velocity);
  free(model->tokens);
  free(model);
}

size_t charlm_parameters(const charlm* model) { return model->parameters; }

void charlm_layer(const charlm* model, int index, size_t* offset, size_t* size) {
  *offset = model->layers[index].offset;
  *size = layer_size(&model->layers[index], index);
}

float* charlm_gradients(charlm* model) { return model->gradients; }
void charlm_use_gradients(charlm* model, float* gradients) { model->gradients = gradients; }

/* ---- forward ---------------------------------------------------------------------------------------------------- */

static void tick(const charlm_hooks* hooks) {
  if (hooks->tick) hooks->tick(hooks->arg);
}

static void embed(charlm* model, const unsigned char* text, const size_t* starts) {
  const layer* l = &model->layers[CHARLM_LAYERS - 1];
  for (int s = 0; s < model->batch; s++) {
    for (int c = 0; c <= CHARLM_CONTEXT; c++) {
      int token = charlm_symbol(text[starts[s] + (size_t)c]);
      model->tokens[s * (CHARLM_CONTEXT + 1) + c] = token;
      if (c == CHARLM_CONTEXT) break;
      memcpy(l->output + (size_t)(s * CHARLM_CONTEXT + c) * CHARLM_EMBEDDING,
             model->weights + l->offset + (size_t)token * CHARLM_EMBEDDING, CHARLM_EMBEDDING * sizeof(float));
    }
  }
}

static void forward(charlm* model, int index, const charlm_hooks* hooks) {
  const layer* l = &model->layers[index];
  const float *weights = model->weights + l->offset, *biases = weights + (size_t)l->rows * (size_t)l->columns;
  for (int s = 0; s < model->batch; s++) {
    const float* in = l->input + (size_t)s * (size_t)l->rows;
    float* out = l->output + (size_t)s * (size_t)l->columns;
    memcpy(out, biases, (size_t)l->columns * sizeof *out);
    for (int r = 0; r < l->rows; r++)
      for (int c = 0; c < l->columns; c++) out[c] += in[r] * weights[(size_t)r * (size_t)l->columns + (size_t)c];
    if (index > 0)
      for (int c = 0; c < l->columns; c++) out[c] = tanhf(out[c]);
    tick(hooks);
  }
}

/* Turns the output layer's values into the derivative of the loss; returns the sum of losses. */
static double softmax(charlm* model, float scale) {
  const layer* l = &model->layers[0];
  double loss = 0;
  for (int s = 0; s < model->batch; s++) {
    const float* out = l->output + (size_t)s * CHARLM_VOCABULARY;
    float *delta = l->delta + (size_t)s * CHARLM_VOCABULARY, top = out[0], sum = 0;
    int target = model->tokens[s * (CHARLM_CONTEXT + 1) + CHARLM_CONTEXT];
    for (int c = 1; c < CHARLM_VOCABULARY; c++) top = out[c] > top ? out[c] : top;
    for (int c = 0; c < CHARLM_VOCABULARY; c++) sum += delta[c] = expf(out[c] - top);
    loss += log((double)sum) - (double)(out[target] - top);
    for (int c = 0; c < CHARLM_VOCABULARY; c++) delta[c] *= scale / sum;
    delta[target] -= scale;
  }
  return loss;
}

/* ---- backward --------------------------------------------------------------------------------------------------- */

/* The derivative by the input of a layer becomes the delta of the layer below (through its tanh). */
static void pass_down(charlm* model, int index, const charlm_hooks* hooks) {
  const layer *l = &model->layers[index], *below = &model->layers[index + 1];
  const float* weights = model->weights + l->offset;
  for (int s = 0; s < model->batch; s++) {
    const float* delta = l->delta + (size_t)s * (size_t)l->columns;
    float* down = below->delta + (size_t)s * (size_t)l->rows;
    for (int r = 0; r < l->rows; r++) {
      float sum = 0, y = l->input[(size_t)s * (size_t)l->rows + (size_t)r];
      for (int c = 0; c < l->columns; c++) sum += delta[c] * weights[(size_t)r * (size_t)l->columns + (size_t)c];
      down[r] = index + 1 < CHARLM_LAYERS - 1 ? sum * (1 - y * y) : sum;
    }
    tick(hooks);
  }
}

static void collect(charlm* model, int index, const charlm_hooks* hooks) {
  const layer* l = &model->layers[index];
  float *weights = model->gradients + l->offset, *biases = weights + (size_t)l->rows * (size_t)l->columns;
  memset(weights, 0, layer_size(l, index) * sizeof *weights);
  for (int s = 0; s < model->batch; s++) {
    const float *in = l->input + (size_t)s * (size_t)l->rows, *delta = l->delta + (size_t)s * (size_t)l->columns;
    for (int r = 0; r < l->rows; r++)
      for (int c = 0; c < l->columns; c++) weights[(size_t)r * (size_t)l->columns + (size_t)c] += in[r] * delta[c];
    for (int c = 0; c < l->columns; c++) biases[c] += delta[c];
    tick(hooks);
  }
}

static void collect_embedding(charlm* model) {
  const layer* l = &model->layers[CHARLM_LAYERS - 1];
  float* gradients = model->gradients + l->offset;
  memset(gradients, 0, layer_size(l, CHARLM_LAYERS - 1) * sizeof *gradients);
  for (int s = 0; s < model->batch; s++)
    for (int c = 0; c < CHARLM_CONTEXT; c++) {
      const float* delta = l->delta + (size_t)(s * CHARLM_CONTEXT + c) * CHARLM_EMBEDDING;
      float* to = gradients + (size_t)model->tokens[s * (CHARLM_CONTEXT + 1) + c] * CHARLM_EMBEDDING;
      for (int e = 0; e < CHARLM_EMBEDDING; e++) to[e] += delta[e];
    }
}

double charlm_step(charlm* model, const unsigned char* text, const size_t* starts, float scale,
                   const charlm_hooks* hooks) {
  embed(model, text, starts);
  for (int i = CHARLM_DEPTH; i >= 0; i--) forward(model, i, hooks);
  double loss = softmax(model, scale);
  for (int i = 0; i < CHARLM_LAYERS - 1; i++) {
    collect(model, i, hooks);
    if (hooks->layer_done) hooks->layer_done(hooks->arg, i);
    pass_down(model, i, hooks);
  }
  collect_embedding(model);
  if (hooks->layer_done) hooks->layer_done(hooks->arg, CHARLM_LAYERS - 1);
  return loss;
}

void charlm_update(charlm* model, int index, float rate, float momentum) {
  size_t offset, size;
  charlm_layer(model, index, &offset, &size);
  for (size_t k = offset; k < offset + size; k++) {
    model->velocity[k] = momentum * model->velocity[k] + model->gradients[k];
    model->weights[k] -= rate * model->velocity[k];
  }
}
