# CUDA's compiler, for the loss on NVIDIA GPUs of compute capability 8.0 and higher; sets VISATB_CUDA_ORIGIN where there is one that will do, else
# VISATB_CUDA_WHY_NOT.
set(visatb_cuda_oldest 12.4)
set(VISATB_CUDA_WHY_NOT "")

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  set(VISATB_CUDA_WHY_NOT "no nvcc that works was found: put it on PATH, or set CUDACXX to it, and build again")
else()
  enable_language(CUDA)
  find_package(CUDAToolkit QUIET)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS visatb_cuda_oldest)
    set(VISATB_CUDA_WHY_NOT "nvcc is ${CMAKE_CUDA_COMPILER_VERSION}, and ${visatb_cuda_oldest} is the oldest that will do")
  elseif(NOT TARGET CUDA::cudart_static)
    set(VISATB_CUDA_WHY_NOT "nvcc ${CMAKE_CUDA_COMPILER_VERSION} has no libcudart_static beside it")
  endif()
endif()

# Our own, and not CMake's: a larger project may have set that for GPUs on which we do not run.
set(VISATB_CUDA_ARCHITECTURES "80-real;90-real;90-virtual" CACHE STRING
  "The GPUs to compile for, as CMake's CUDA_ARCHITECTURES names them, from 80 on; without 90 rows are read twice everywhere")
foreach(architecture ${VISATB_CUDA_ARCHITECTURES})
  if(NOT architecture MATCHES "^([0-9]+)[af]?(-real|-virtual)?$" OR CMAKE_MATCH_1 LESS 80)
    message(FATAL_ERROR "VISATB_CUDA_ARCHITECTURES=${VISATB_CUDA_ARCHITECTURES}: expected numbers from 80 on, such as 90-real")
  endif()
endforeach()

if(VISATB_CUDA_WHY_NOT AND VISATB_CUDA STREQUAL "ON")
  message(FATAL_ERROR "VISATB_CUDA=ON needs CUDA ${visatb_cuda_oldest} or newer: ${VISATB_CUDA_WHY_NOT}")
endif()
if(NOT VISATB_CUDA_WHY_NOT)
  set(VISATB_CUDA_ORIGIN "CUDA ${CMAKE_CUDA_COMPILER_VERSION}")
endif()
