/* NVIDIA's adds to these only what nvcc needs, and wants headers that come in another package. */
#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>
#include <vector_functions.h>
