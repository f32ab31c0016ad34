// Streams, events, capture and graphs.
//
// Work is done at the call that submits it, so the order of calls is the order of the work. Two exceptions:
// a stream that is being captured records it, and with EMULATOR_LAZY=1 every stream but the legacy one keeps
// its work until something waits for it, so that a missing synchronisation shows as a wrong value.
//
// A graph is the list of its operations in the order of capture, which is an order that its edges allow: an
// operation can only depend on those submitted before. Which operation depends on which is kept as vector
// clocks, only to tell whether all branches of a capture have been joined at its end.
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "emulator.h"

namespace emulator {
namespace {

using Clock = std::vector<uint64_t>;  // per stream of a capture: how many of its operations come before
using Operations = std::vector<Operation>;

struct Capture {
  cudaStreamCaptureMode mode;
  pthread_t thread;
  Stream *origin;
  bool invalid = false;
  Operations operations;
  std::vector<Stream *> streams;
  Clock submitted;
};

// A point of a stream that an event stands for.
struct Mark {
  Stream *stream;
  bool reached = false;
  std::chrono::steady_clock::time_point time;
};

struct Event {
  int device;
  bool timed;
  std::shared_ptr<Mark> mark;  // where it was recorded last
  Capture *capture = nullptr;  // the same for a capture; only compared once `captures` no longer has it
  Clock clock;
};

std::set<Stream *> streams;
std::set<Event *> events;
std::set<Capture *> captures;
std::map<cudaGraph_t, std::shared_ptr<Operations>> graphs;
std::map<cudaGraphExec_t, std::shared_ptr<Operations>> executables;

bool lazy = getenv("EMULATOR_LAZY") && atoi(getenv("EMULATOR_LAZY"));
bool skipping = false;

}  // namespace

struct Stream {
  int device;
  bool legacy;
  bool blocking;  // waits for the legacy stream and is waited for by it
  int priority = 0;
  unsigned flags = 0;
  std::deque<Operation> queue;
  bool running = false;
  cudaError_t error = cudaSuccess;  // of work done later than its submission
  Capture *capture = nullptr;
  size_t slot = 0;
  Clock clock;
};

namespace {

Stream *new_stream(int device, bool legacy, bool blocking) {
  Stream *stream = new Stream{device, legacy, blocking};
  streams.insert(stream);
  return stream;
}

cudaError_t run_one(Stream *stream) {
  Operation operation = std::move(stream->queue.front());
  stream->queue.pop_front();
  stream->running = true;
  cudaError_t error = guarded(operation);
  stream->running = false;
  if (error && !stream->error) stream->error = error;
  return error;
}

// Does the queued work of a stream, until there is none or the mark has been reached.
void drain(Stream *stream, const Mark *mark = nullptr) {
  while (!(mark && mark->reached) && (stream->running || !stream->queue.empty())) {
    if (stream->running) {
      // another thread is in a callback of this stream, with the lock given up
      Unlock unlock;
      sched_yield();
    } else {
      run_one(stream);
    }
  }
}

cudaError_t take_error(Stream *stream) { return std::exchange(stream->error, cudaSuccess); }

void merge(Clock &clock, const Clock &other) {
  clock.resize(std::max(clock.size(), other.size()));
  for (size_t i = 0; i < other.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

void join(Capture *capture, Stream *stream) {
  stream->capture = capture;
  stream->slot = capture->streams.size();
  stream->clock.assign(stream->slot + 1, 0);
  capture->streams.push_back(stream);
  // joining counts as an operation, so that a branch left without work has to be joined too
  capture->submitted.push_back(stream->clock[stream->slot] = 1);
}

cudaError_t refuse(Capture *capture, cudaError_t error) {
  capture->invalid = true;
  return error;
}

// The legacy stream waits for all blocking streams of its device: of a captured one it cannot.
cudaError_t check_legacy(Stream *stream) {
  if (!stream->legacy) return cudaSuccess;
  cudaError_t error = cudaSuccess;
  for (Capture *capture : captures)
    for (Stream *captured : capture->streams)
      if (captured->blocking && captured->device == stream->device)
        error = refuse(capture, cudaErrorStreamCaptureImplicit);
  return error;
}

bool forbids(const Capture *capture) {
  if (capture->mode == cudaStreamCaptureModeRelaxed) return false;
  return capture->mode == cudaStreamCaptureModeGlobal || pthread_equal(capture->thread, pthread_self());
}

cudaError_t end(Capture *capture) {
  const Clock &seen = capture->origin->clock;
  cudaError_t error = capture->invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
  for (size_t i = 0; !error && i < capture->submitted.size(); ++i)
    if (i >= seen.size() || seen[i] < capture->submitted[i]) error = cudaErrorStreamCaptureUnjoined;
  for (Stream *stream : capture->streams) stream->capture = nullptr;
  captures.erase(capture);
  return error;
}

cudaError_t record(Event *event, Stream *stream) {
  if (event->device != stream->device) return cudaErrorInvalidResourceHandle;
  if (Capture *capture = stream->capture) {
    if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
    event->capture = capture;
    event->clock = stream->clock;
    event->mark.reset();
    return cudaSuccess;
  }
  event->capture = nullptr;
  auto mark = event->mark = std::make_shared<Mark>(Mark{stream});
  return submit(stream, [mark] {
    mark->reached = true;
    mark->time = std::chrono::steady_clock::now();
    return cudaSuccess;
  });
}

cudaError_t wait(Stream *stream, Event *event) {
  Capture *capture = stream->capture;
  if (capture && capture->invalid) return cudaErrorStreamCaptureInvalidated;
  if (event->capture) {
    if (!captures.count(event->capture)) return cudaErrorCapturedEvent;
    if (event->capture->invalid) return cudaErrorStreamCaptureInvalidated;
    if (stream->legacy) return refuse(event->capture, cudaErrorStreamCaptureImplicit);
    if (capture && capture != event->capture) {
      refuse(capture, cudaErrorStreamCaptureMerge);
      return refuse(event->capture, cudaErrorStreamCaptureMerge);
    }
    if (!capture) join(event->capture, stream);
    merge(stream->clock, event->clock);
    return cudaSuccess;
  }
  if (capture) return refuse(capture, cudaErrorStreamCaptureIsolation);
  auto mark = event->mark;
  if (!mark) return cudaSuccess;
  return submit(stream, [mark] {
    drain(mark->stream, mark.get());
    return cudaSuccess;
  });
}

// An event of a capture cannot be asked for, nor waited for.
cudaError_t waitable(Event *event) {
  if (!event->capture) return cudaSuccess;
  return captures.count(event->capture) ? refuse(event->capture, cudaErrorCapturedEvent)
                                        : cudaErrorCapturedEvent;
}

Event *find_event(cudaEvent_t handle) {
  Event *event = reinterpret_cast<Event *>(handle);
  return events.count(event) ? event : nullptr;
}

#define FIND_STREAM(stream, handle) \
  Stream *stream = find_stream(handle); \
  if (!stream) return fail(cudaErrorInvalidResourceHandle)
#define FIND_EVENT(event, handle) \
  Event *event = find_event(handle); \
  if (!event) return fail(cudaErrorInvalidResourceHandle)

}  // namespace

Stream *find_stream(cudaStream_t handle) {
  if (handle == nullptr || handle == cudaStreamLegacy) {
    static std::map<int, Stream *> legacy;
    Stream *&stream = legacy[current_device()];
    if (!stream) stream = new_stream(current_device(), true, false);
    return stream;
  }
  if (handle == cudaStreamPerThread) {
    thread_local std::map<int, Stream *> own;
    Stream *&stream = own[current_device()];
    if (!stream) stream = new_stream(current_device(), false, true);
    return stream;
  }
  Stream *stream = reinterpret_cast<Stream *>(handle);
  return streams.count(stream) && !stream->legacy ? stream : nullptr;
}

int device_of(Stream *stream) { return stream->device; }

cudaError_t submit(Stream *stream, Operation operation) {
  if (cudaError_t error = context()) return error;
  if (Capture *capture = stream->capture) {
    if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
    capture->operations.push_back(std::move(operation));
    stream->clock[stream->slot] = ++capture->submitted[stream->slot];
    return cudaSuccess;
  }
  if (cudaError_t error = check_legacy(stream)) return error;
  if (skipping) return cudaSuccess;
  if (stream->legacy)
    for (Stream *other : std::vector<Stream *>(streams.begin(), streams.end()))
      if (other->blocking && other->device == stream->device && !other->capture) drain(other);
  stream->queue.push_back(std::move(operation));
  if (lazy && !stream->legacy) return cudaSuccess;
  drain(stream);
  return take_error(stream);
}

cudaError_t synchronize(Stream *stream) {
  if (cudaError_t error = context()) return error;
  if (stream->capture) return refuse(stream->capture, cudaErrorStreamCaptureUnsupported);
  if (cudaError_t error = check_legacy(stream)) return error;
  if (stream->legacy)
    for (Stream *other : std::vector<Stream *>(streams.begin(), streams.end()))
      if (other->blocking && other->device == stream->device) drain(other);
  drain(stream);
  return take_error(stream);
}

cudaError_t synchronize_device(int device) {
  cudaError_t error = cudaSuccess;
  for (Stream *stream : std::vector<Stream *>(streams.begin(), streams.end())) {
    if (device >= 0 && stream->device != device) continue;
    drain(stream);
    if (cudaError_t its = device >= 0 ? take_error(stream) : cudaSuccess) error = its;
  }
  return error;
}

cudaError_t potentially_unsafe() {
  cudaError_t error = context();
  for (Capture *capture : captures)
    if (forbids(capture)) error = refuse(capture, cudaErrorStreamCaptureUnsupported);
  return error;
}

cudaError_t not_in_capture(Stream *stream) {
  return stream->capture ? refuse(stream->capture, cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

}  // namespace emulator

using namespace emulator;

extern "C" {

// What the fake libraries do their work with: run(args) now or later, with a copy of args.
int emulator_submit(void *handle, void (*run)(const void *args), const void *args, size_t size) {
  Lock lock;
  FIND_STREAM(stream, static_cast<cudaStream_t>(handle));
  std::shared_ptr<std::max_align_t[]> copy(new std::max_align_t[size / sizeof(std::max_align_t) + 1]);
  memcpy(copy.get(), args, size);
  return fail(submit(stream, [run, copy] {
    run(copy.get());
    return cudaSuccess;
  }));
}

void emulator_set_skipping(int value) {
  Lock lock;
  synchronize_device(-1);
  skipping = value;
}

void emulator_set_lazy(int value) {
  Lock lock;
  synchronize_device(-1);
  lazy = value;
}

// Kernels that nvcc compiled into CuPy (CUB, cupy.random.Generator). Their callers do not look at what this
// returns, so the error comes again at the next synchronisation, as a kernel's own would.
cudaError_t cudaLaunchKernel(const void *, dim3, dim3, void **, size_t, cudaStream_t handle) {
  Lock lock;
  FIND_STREAM(stream, handle);
  say("a kernel compiled with CuPy itself cannot run");
  stream->error = cudaErrorNotSupported;
  return fail(cudaErrorNotSupported);
}

// ---- streams

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *handle, unsigned flags, int priority) {
  Lock lock;
  EMULATOR_TRY(context());
  Stream *stream = new_stream(current_device(), false, !(flags & cudaStreamNonBlocking));
  stream->flags = flags;
  stream->priority = std::clamp(priority, -5, 0);
  *handle = reinterpret_cast<cudaStream_t>(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *handle, unsigned flags) {
  return cudaStreamCreateWithPriority(handle, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t *handle) { return cudaStreamCreateWithPriority(handle, 0, 0); }

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  Lock lock;
  FIND_STREAM(stream, handle);
  if (stream->legacy) return fail(cudaErrorInvalidResourceHandle);
  if (Capture *capture = stream->capture) {
    capture->invalid = true;
    if (capture->origin == stream) end(capture);
  }
  drain(stream);
  streams.erase(stream);  // not freed: marks of events point to it
  return cudaSuccess;
}

cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned *flags) {
  Lock lock;
  FIND_STREAM(stream, handle);
  *flags = stream->flags;
  return cudaSuccess;
}

cudaError_t cudaStreamGetPriority(cudaStream_t handle, int *priority) {
  Lock lock;
  FIND_STREAM(stream, handle);
  *priority = stream->priority;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  Lock lock;
  FIND_STREAM(stream, handle);
  return fail(synchronize(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t handle) {
  Lock lock;
  FIND_STREAM(stream, handle);
  EMULATOR_TRY(not_in_capture(stream));
  EMULATOR_TRY(check_legacy(stream));
  if (stream->queue.empty()) return fail(take_error(stream));
  drain(stream);  // so that who asks again and again comes to an end
  return cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize() {
  Lock lock;
  cudaError_t error = cudaSuccess;
  for (Capture *capture : captures)
    for (Stream *stream : capture->streams)
      if (stream->device == current_device()) error = refuse(capture, cudaErrorStreamCaptureUnsupported);
  EMULATOR_TRY(error);
  return fail(synchronize_device(current_device()));
}

cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void *data) {
  Lock lock;
  FIND_STREAM(stream, handle);
  return fail(submit(stream, [=] {
    Unlock unlock;
    function(data);
    return cudaSuccess;
  }));
}

cudaError_t cudaStreamAddCallback(cudaStream_t handle, cudaStreamCallback_t function, void *data, unsigned) {
  Lock lock;
  FIND_STREAM(stream, handle);
  EMULATOR_TRY(not_in_capture(stream));
  return fail(submit(stream, [=] {
    Unlock unlock;
    function(handle, cudaSuccess, data);
    return cudaSuccess;
  }));
}

// ---- events

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *handle, unsigned flags) {
  Lock lock;
  EMULATOR_TRY(context());
  Event *event = new Event{current_device(), !(flags & cudaEventDisableTiming)};
  events.insert(event);
  *handle = reinterpret_cast<cudaEvent_t>(event);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *handle) { return cudaEventCreateWithFlags(handle, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  Lock lock;
  FIND_EVENT(event, handle);
  events.erase(event);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t on) {
  Lock lock;
  FIND_EVENT(event, handle);
  FIND_STREAM(stream, on);
  return fail(record(event, stream));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t of, unsigned) {
  Lock lock;
  FIND_STREAM(stream, handle);
  FIND_EVENT(event, of);
  return fail(wait(stream, event));
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  Lock lock;
  FIND_EVENT(event, handle);
  EMULATOR_TRY(waitable(event));
  EMULATOR_TRY(potentially_unsafe());
  if (!event->mark) return cudaSuccess;
  auto mark = event->mark;
  drain(mark->stream, mark.get());
  return fail(take_error(mark->stream));
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  Lock lock;
  FIND_EVENT(event, handle);
  EMULATOR_TRY(waitable(event));
  EMULATOR_TRY(potentially_unsafe());
  auto mark = event->mark;
  if (!mark || mark->reached) return cudaSuccess;
  drain(mark->stream, mark.get());
  return cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to) {
  Lock lock;
  FIND_EVENT(first, from);
  FIND_EVENT(last, to);
  EMULATOR_TRY(waitable(first));
  EMULATOR_TRY(waitable(last));
  if (!first->timed || !last->timed || !first->mark || !last->mark)
    return fail(cudaErrorInvalidResourceHandle);
  if (!first->mark->reached || !last->mark->reached) return fail(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(last->mark->time - first->mark->time).count();
  return cudaSuccess;
}

// ---- capture

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  Lock lock;
  FIND_STREAM(stream, handle);
  if (stream->legacy) return fail(cudaErrorStreamCaptureUnsupported);
  if (stream->capture) return fail(cudaErrorIllegalState);
  Capture *capture = new Capture{mode, pthread_self(), stream};  // not freed: events are compared with it
  captures.insert(capture);
  join(capture, stream);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t *graph) {
  Lock lock;
  *graph = nullptr;
  FIND_STREAM(stream, handle);
  Capture *capture = stream->capture;
  if (!capture) return fail(cudaErrorIllegalState);
  if (capture->mode != cudaStreamCaptureModeRelaxed && !pthread_equal(capture->thread, pthread_self()))
    return fail(cudaErrorStreamCaptureWrongThread);
  if (capture->origin != stream) return fail(refuse(capture, cudaErrorStreamCaptureUnmatched));
  EMULATOR_TRY(end(capture));
  auto operations = std::make_shared<Operations>(std::move(capture->operations));
  *graph = reinterpret_cast<cudaGraph_t>(new char);
  graphs[*graph] = operations;
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus *status) {
  Lock lock;
  FIND_STREAM(stream, handle);
  if (stream->legacy)
    for (Capture *capture : captures)
      for (Stream *captured : capture->streams)
        if (captured->blocking && captured->device == stream->device)
          return fail(cudaErrorStreamCaptureImplicit);
  *status = !stream->capture           ? cudaStreamCaptureStatusNone
            : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

// ---- graphs

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long) {
  Lock lock;
  auto found = graphs.find(graph);
  if (found == graphs.end()) return fail(cudaErrorInvalidValue);
  *executable = reinterpret_cast<cudaGraphExec_t>(new char);
  executables[*executable] = found->second;
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t) {
  Lock lock;
  return fail(executables.count(executable) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t handle) {
  Lock lock;
  FIND_STREAM(stream, handle);
  auto found = executables.find(executable);
  if (found == executables.end()) return fail(cudaErrorInvalidValue);
  // into a capture of its own: CUDA adds it as a child graph
  return fail(submit(stream, [operations = found->second] {
    for (const Operation &operation : *operations)
      if (cudaError_t error = operation()) return error;
    return cudaSuccess;
  }));
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  Lock lock;
  return fail(graphs.erase(graph) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  Lock lock;
  return fail(executables.erase(executable) ? cudaSuccess : cudaErrorInvalidValue);
}

}  // extern "C"
