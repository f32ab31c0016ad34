/* CUDA's headers include this file, which NVIDIA ships in a package of its own (NVRTC has it built in).
   Under g++ every mark of where a thing lives says nothing: one memory, one kind of function. */
#pragma once

#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __align__(n)
#define __device_builtin__
#define __device_builtin_texture_type__
#define __device_builtin_surface_type__
#define __cudart_builtin__
#define __specialization_static static
#define __no_return__ __attribute__((noreturn))
#define __noinline__ /* not an attribute: libstdc++ writes __attribute__((__noinline__)) */
#define __forceinline__ inline __attribute__((always_inline))
#define __inline_hint__
#define __no_sanitize__(...)
#define __host__
#define __device__
#define __global__
#define __constant__
#define __managed__
#define __grid_constant__
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define CUDARTAPI
#define CUDARTAPI_CDECL
