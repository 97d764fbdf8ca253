/// edgekit's C API: run a plan from any language.
///
///     edgekit_plan* plan;
///     edgekit_session* session;
///     if (edgekit_plan_open("model.plan", &plan) != EDGEKIT_OK) puts(edgekit_last_error());
///     if (edgekit_session_create(plan, 4, &session) != EDGEKIT_OK) puts(edgekit_last_error());
///     const void* inputs[] = {image};
///     void* outputs[] = {scores};
///     edgekit_session_run(session, inputs, 1, outputs, 1, 1);
///     edgekit_session_destroy(session);
///     edgekit_plan_close(plan);
///
/// Memory. A handle that a function creates belongs to the caller, who gives it back to the
/// function that ends it. A plan and its sessions may be ended in any order. Text and shapes in the
/// structures below belong to the plan that they were asked from and live until
/// edgekit_plan_close(). Everything else that is passed by pointer belongs to the caller, and is
/// not kept after the call.
///
/// Threads. A plan may be used from any number of threads at once. A session may be used from one
/// thread at a time, whichever it is; different sessions are independent, also those of one plan.
/// edgekit_last_error() is the calling thread's own. A session does not survive fork().
///
/// Errors. Every function that can fail returns an edgekit_status and has then changed nothing that
/// it was given. No exception and no exit comes out of any function.
#ifndef EDGEKIT_H_
#define EDGEKIT_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define EDGEKIT_API __attribute__((visibility("default")))
#else
#define EDGEKIT_API
#endif

typedef struct edgekit_plan edgekit_plan;
typedef struct edgekit_session edgekit_session;

typedef enum edgekit_status {
  EDGEKIT_OK = 0,
  /// A null pointer, or an index or count that does not fit.
  EDGEKIT_BAD_ARGUMENT = 1,
  /// The plan can't be read, is damaged, or is for another CPU.
  EDGEKIT_BAD_PLAN = 2,
  /// Memory or threads are not to be had.
  EDGEKIT_NO_RESOURCES = 3
} edgekit_status;

typedef enum edgekit_dtype {
  EDGEKIT_INT8 = 0,
  EDGEKIT_INT32 = 1,
  EDGEKIT_FLOAT32 = 2,
  EDGEKIT_INT64 = 3,
  EDGEKIT_UINT8 = 4,
  EDGEKIT_BOOL = 5
} edgekit_dtype;

typedef struct edgekit_tensor_info {
  const char* name;
  edgekit_dtype dtype;
  size_t rank;
  int64_t shape[8];
  /// Bytes of all elements, which lie row-major without gaps.
  size_t size;
} edgekit_tensor_info;

typedef struct edgekit_op_info {
  /// The node of the source model.
  const char* name;
  /// Such as "Conv".
  const char* kind;
  /// The kernel's name, or "".
  const char* kernel;
  edgekit_tensor_info output;
} edgekit_op_info;

/// The SHA-256 of what an op wrote, codes as int8, in hexadecimal.
typedef struct edgekit_digest {
  char text[65];
} edgekit_digest;

/// Returns the version, such as "0.1.0".
EDGEKIT_API const char* edgekit_version(void);

/// Returns why the calling thread's last failed call failed; "" if none did. Valid until the next
/// call that fails.
EDGEKIT_API const char* edgekit_last_error(void);

/// Returns the number of instruction sets that edgekit knows.
EDGEKIT_API size_t edgekit_isa_count(void);

/// Returns the name of an instruction set; null when `index` is out of range.
EDGEKIT_API const char* edgekit_isa_name(size_t index);

/// Returns 1 when this library has kernels for that instruction set and this CPU can execute them,
/// otherwise 0.
EDGEKIT_API int edgekit_isa_runs_here(size_t index);

/// Maps and checks the plan at `path`. Until edgekit_plan_close() the file may be replaced by
/// another, but not written to or truncated.
EDGEKIT_API edgekit_status edgekit_plan_open(const char* path, edgekit_plan** plan);

/// Checks a plan in memory and keeps a copy of it.
EDGEKIT_API edgekit_status edgekit_plan_from_memory(const void* data, size_t size,
                                                    edgekit_plan** plan);

/// Ends the caller's use of the plan; its memory goes with its last session. Null is allowed.
EDGEKIT_API void edgekit_plan_close(edgekit_plan* plan);

/// Returns the instruction set, board profile, source model's SHA-256 or writer's version; null for
/// a null plan.
EDGEKIT_API const char* edgekit_plan_isa(const edgekit_plan* plan);
EDGEKIT_API const char* edgekit_plan_target(const edgekit_plan* plan);
EDGEKIT_API const char* edgekit_plan_source_digest(const edgekit_plan* plan);
EDGEKIT_API const char* edgekit_plan_producer(const edgekit_plan* plan);

/// Returns how many inputs, outputs or ops there are; 0 for a null plan.
EDGEKIT_API size_t edgekit_plan_input_count(const edgekit_plan* plan);
EDGEKIT_API size_t edgekit_plan_output_count(const edgekit_plan* plan);
EDGEKIT_API size_t edgekit_plan_op_count(const edgekit_plan* plan);

/// Describes an input, an output, or an op in order of execution.
EDGEKIT_API edgekit_status edgekit_plan_input(const edgekit_plan* plan, size_t index,
                                              edgekit_tensor_info* info);
EDGEKIT_API edgekit_status edgekit_plan_output(const edgekit_plan* plan, size_t index,
                                               edgekit_tensor_info* info);
EDGEKIT_API edgekit_status edgekit_plan_op(const edgekit_plan* plan, size_t index,
                                           edgekit_op_info* info);

/// A plan may hold the network for several sizes of its inputs, over one copy of the weights.
/// Returns how many; 0 for a null plan. What the functions above say of a plan holds for its first
/// size.
EDGEKIT_API size_t edgekit_plan_size_count(const edgekit_plan* plan);

/// Makes a handle of size `index` alone, which every function takes that takes a plan, and which is
/// the caller's to close.
EDGEKIT_API edgekit_status edgekit_plan_size(const edgekit_plan* plan, size_t index,
                                             edgekit_plan** size);

/// Finds the size that takes inputs of these ranks and shapes (of each info nothing else is read; a
/// state that is not given has rank 0) in the fewest runs: writes its index and the
/// `batches` for edgekit_session_run(). EDGEKIT_BAD_ARGUMENT where none does; the error names those
/// that there are.
EDGEKIT_API edgekit_status edgekit_plan_find_size(const edgekit_plan* plan,
                                                  const edgekit_tensor_info* inputs,
                                                  size_t input_count, size_t* index,
                                                  size_t* batches);

/// Returns which output of a run is input `index` of the next one, its state, or -1 where that
/// input is none. Both have one type and shape.
EDGEKIT_API int edgekit_plan_state_output(const edgekit_plan* plan, size_t index);

/// Returns how many cores the plan's target wants threads on; 0: it leaves that to the system.
EDGEKIT_API size_t edgekit_plan_core_count(const edgekit_plan* plan);

/// Returns the core for thread `index`, 0 when there is none. A session pins its own threads, 1 and
/// up; thread 0 is the one that calls edgekit_session_run(), which is yours to pin.
EDGEKIT_API uint32_t edgekit_plan_core(const edgekit_plan* plan, size_t index);

/// Makes all that is needed to run the plan on `threads` threads, the calling one included. No more
/// of them run than there are cores for them.
EDGEKIT_API edgekit_status edgekit_session_create(const edgekit_plan* plan, size_t threads,
                                                  edgekit_session** session);

/// Returns why a thread of the session could not be pinned to its core; null where none failed, or
/// none is to be pinned. It runs all the same. Lives as long as the session.
EDGEKIT_API const char* edgekit_session_pinning_problem(const edgekit_session* session);

/// Ends a session, which must not be running. Null is allowed.
EDGEKIT_API void edgekit_session_destroy(edgekit_session* session);

/// Chooses which size of its plan the session runs from now on, the first one until then. States go
/// on. Allocates nothing.
EDGEKIT_API edgekit_status edgekit_session_set_size(edgekit_session* session, size_t index);

/// Runs the network on `batches` consecutive samples; a sample is the plan's whole input, whose own
/// leading dimension may be more than one.
///
/// inputs[i] and outputs[i] point to `batches * size` bytes of the tensors that
/// edgekit_plan_input() and edgekit_plan_output() describe for the size that runs, aligned to their
/// elements. An output overlaps neither an input nor another output. The input of a state may be
/// null: the session then takes what its run before gave, at first zeros. Allocates nothing.
EDGEKIT_API edgekit_status edgekit_session_run(edgekit_session* session, const void* const* inputs,
                                               size_t input_count, void* const* outputs,
                                               size_t output_count, size_t batches);

/// Makes all states zeros, as in a new session.
EDGEKIT_API edgekit_status edgekit_session_reset(edgekit_session* session);

/// Runs one sample `repeats` times, at least once, and writes the median seconds of each op.
/// `op_count` must be the plan's.
EDGEKIT_API edgekit_status edgekit_session_profile(edgekit_session* session,
                                                   const void* const* inputs, size_t input_count,
                                                   size_t repeats, double* seconds,
                                                   size_t op_count);

/// Runs one sample and writes the digest of each op's output. `op_count` must be the plan's.
EDGEKIT_API edgekit_status edgekit_session_digests(edgekit_session* session,
                                                   const void* const* inputs, size_t input_count,
                                                   edgekit_digest* digests, size_t op_count);

#ifdef __cplusplus
}
#endif

#endif  // EDGEKIT_H_
