# CUDA's compiler, for the loss on NVIDIA GPUs; sets VISATB_CUDA_ORIGIN where there is one that will do, else
# VISATB_CUDA_WHY_NOT.
set(visatb_cuda_oldest 12.4)
set(VISATB_CUDA_WHY_NOT "")

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  set(VISATB_CUDA_WHY_NOT "no nvcc that works was found: put it on PATH, or set CUDACXX to it")
else()
  # Each GPU from compute capability 8.0 on: machine code for two generations, and what the driver compiles for others.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual)
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit QUIET)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS visatb_cuda_oldest)
    set(VISATB_CUDA_WHY_NOT "nvcc is ${CMAKE_CUDA_COMPILER_VERSION}, and ${visatb_cuda_oldest} is the oldest that will do")
  elseif(NOT TARGET CUDA::cudart_static)
    set(VISATB_CUDA_WHY_NOT "nvcc ${CMAKE_CUDA_COMPILER_VERSION} has no libcudart_static beside it")
  endif()
endif()

if(VISATB_CUDA_WHY_NOT AND VISATB_CUDA STREQUAL "ON")
  message(FATAL_ERROR "VISATB_CUDA=ON needs CUDA ${visatb_cuda_oldest} or newer: ${VISATB_CUDA_WHY_NOT}")
endif()
if(NOT VISATB_CUDA_WHY_NOT)
  set(VISATB_CUDA_ORIGIN "CUDA ${CMAKE_CUDA_COMPILER_VERSION}")
endif()
