// Classifies one input: classify MODEL.plan INPUT [OUTPUT]
//
// INPUT holds the bytes of the network's input, as numpy's tofile() writes them; OUTPUT gets those
// of its first output. Prints the five largest values where that is float32.

#include <edgekit.h>
#include <stdio.h>
#include <stdlib.h>

enum { kTop = 5 };

// Ends the program where a call of edgekit failed.
static void check(edgekit_status status) {
  if (status == EDGEKIT_OK) return;
  fprintf(stderr, "classify: %s\n", edgekit_last_error());
  exit(1);
}

static void* allocate(size_t size) {
  void* const memory = malloc(size);
  if (memory == NULL) {
    fprintf(stderr, "classify: no memory for %zu bytes\n", size);
    exit(1);
  }
  return memory;
}

// Reads a file that has exactly `size` bytes.
static void* read_file(const char* path, size_t size) {
  FILE* const file = fopen(path, "rb");
  if (file == NULL) {
    perror(path);
    exit(1);
  }
  void* const bytes = allocate(size);
  if (fread(bytes, 1, size, file) != size || fgetc(file) != EOF) {
    fprintf(stderr, "%s: the network's input has %zu bytes, and this file does not\n", path, size);
    exit(1);
  }
  fclose(file);
  return bytes;
}

static void write_file(const char* path, const void* bytes, size_t size) {
  FILE* const file = fopen(path, "wb");
  if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
    perror(path);
    exit(1);
  }
}

// Prints the largest values, each with its place.
static void print_top(const float* values, size_t count) {
  size_t last = count;
  for (int rank = 0; rank < kTop && (size_t)rank < count; ++rank) {
    size_t best = count;
    for (size_t i = 0; i < count; ++i) {
      const int taken =
          last != count && (values[i] > values[last] || (values[i] == values[last] && i <= last));
      if (!taken && (best == count || values[i] > values[best])) best = i;
    }
    if (best == count) return;
    printf("%zu %g\n", best, (double)values[best]);
    last = best;
  }
}

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    fputs("usage: classify MODEL.plan INPUT [OUTPUT]\n", stderr);
    return 2;
  }
  edgekit_plan* plan = NULL;
  edgekit_session* session = NULL;
  check(edgekit_plan_open(argv[1], &plan));
  check(edgekit_session_create(plan, 1, &session));

  if (edgekit_plan_input_count(plan) != 1) {
    fputs("classify: the network has more than one input\n", stderr);
    return 1;
  }
  edgekit_tensor_info input;
  check(edgekit_plan_input(plan, 0, &input));
  void* const image = read_file(argv[2], input.size);

  const size_t count = edgekit_plan_output_count(plan);
  edgekit_tensor_info* const infos = allocate(count * sizeof *infos);
  void** const outputs = allocate(count * sizeof *outputs);
  for (size_t i = 0; i < count; ++i) {
    check(edgekit_plan_output(plan, i, &infos[i]));
    outputs[i] = allocate(infos[i].size);
  }

  const void* const inputs[] = {image};
  check(edgekit_session_run(session, inputs, 1, outputs, count, 1));
  if (infos[0].dtype == EDGEKIT_FLOAT32) print_top(outputs[0], infos[0].size / sizeof(float));
  if (argc == 4) write_file(argv[3], outputs[0], infos[0].size);

  for (size_t i = 0; i < count; ++i) free(outputs[i]);
  free(outputs);
  free(infos);
  free(image);
  edgekit_session_destroy(session);
  edgekit_plan_close(plan);
  return 0;
}
