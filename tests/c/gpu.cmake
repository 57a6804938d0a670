# The loss on a GPU, tested where there is none: the library once more, with its kernels compiled for the CPU, a fibre for
# each of their threads (tests/fibres).
include(CheckLanguage)
check_language(CXX)
if(NOT CMAKE_CXX_COMPILER OR VISATB_SANITIZE MATCHES "thread")
  message(STATUS "libvisatb: no tests of the kernels on the CPU, which take a C++ compiler and no TSan")
  return()
endif()
enable_language(CXX)
add_subdirectory(../fibres fibres)

include("${PROJECT_SOURCE_DIR}/libvisatb/cuda/sources.cmake")
add_library(visatb_fibres STATIC ${VISATB_CUDA_HOST_SOURCES} "${PROJECT_SOURCE_DIR}/libvisatb/cuda/nccl.c")
visatb_compile_kernels_for_cpu(visatb_fibres ${VISATB_CUDA_KERNELS})
target_include_directories(visatb_fibres PUBLIC "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/libvisatb")
target_link_libraries(visatb_fibres PUBLIC visatb_core PRIVATE visatb_options ${CMAKE_DL_LIBS})
set_source_files_properties("${PROJECT_SOURCE_DIR}/libvisatb/cuda/opened_library.c" TARGET_DIRECTORY visatb_fibres
  PROPERTIES COMPILE_DEFINITIONS _GNU_SOURCE)

function(visatb_test_on_fibres name)
  add_executable(${name} ${ARGN} device_memory_fibres.c)
  target_include_directories(${name} PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
  target_link_libraries(${name} PRIVATE
    visatb_fibres visatb_fibres_harness visatb_options PkgConfig::CMOCKA Threads::Threads ${CMAKE_DL_LIBS} m)
  target_compile_definitions(${name} PRIVATE _XOPEN_SOURCE=700)
endfunction()

# What is promised of each path of the CPU is promised of each of the GPU: the same tests, with another loss.
add_library(visatb_on_gpu OBJECT on_gpu.c on_gpu_paths.c)
target_include_directories(visatb_on_gpu PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
target_link_libraries(visatb_on_gpu PRIVATE visatb_fibres visatb_fibres_harness visatb_options)
function(visatb_test_on_gpu name)
  visatb_test_on_fibres(${name}_on_gpu ${name}.c loss_reference.c $<TARGET_OBJECTS:visatb_on_gpu> ${ARGN})
  # A gradient of e^-60 has fewer digits on a GPU, far below what is promised of it.
  target_compile_definitions(${name}_on_gpu PRIVATE
    visatb_vitw_loss=on_gpu_vitw_loss visatb_cpu_path_name=on_gpu_path_name LOSS_CALL_NEAR=4e-6)
  add_test(NAME ${name}_on_gpu COMMAND ${name}_on_gpu)
endfunction()
visatb_test_on_gpu(test_loss_rules loss_call.c)
visatb_test_on_gpu(test_loss_sums loss_call.c)
visatb_test_on_gpu(test_loss_accuracy loss_problem.c)
visatb_test_on_gpu(test_loss_edges loss_problem.c)
visatb_test_on_gpu(test_loss_options loss_problem.c)

function(visatb_test_in_slices_on_gpu name)
  set(program ${name}_in_slices_on_gpu)
  visatb_test_on_fibres(${program} ${name}.c in_slices.c in_slices_paths.c loss_reference.c ${ARGN})
  target_compile_definitions(${program} PRIVATE
    visatb_vitw_loss=in_slices_vitw_loss visatb_cpu_path_name=on_gpu_path_name IN_SLICES_ON_GPU LOSS_CALL_NEAR=4e-6)
  add_test(NAME ${program} COMMAND ${program})
  set_property(TEST ${program} PROPERTY ENVIRONMENT "VISATB_TEST_SLICES=4")
endfunction()
visatb_test_in_slices_on_gpu(test_loss_rules loss_call.c)
visatb_test_in_slices_on_gpu(test_loss_sums loss_call.c)
visatb_test_in_slices_on_gpu(test_loss_accuracy loss_problem.c)
visatb_test_in_slices_on_gpu(test_loss_edges loss_problem.c)
visatb_test_in_slices_on_gpu(test_loss_options loss_problem.c)
visatb_test_in_slices_on_gpu(test_slice_edges loss_problem.c)

# What only a GPU has: bad data in its memory, scalars there, paths and plans, orders of threads.
visatb_test_on_fibres(test_cuda_loss test_cuda_loss.c
  on_gpu.c loss_call.c loss_problem.c loss_reference.c cpu_paths.c)
add_test(NAME test_cuda_loss COMMAND test_cuda_loss)
visatb_test_on_fibres(test_cuda_slices test_cuda_slices.c
  in_slices.c loss_call.c loss_problem.c loss_reference.c cpu_paths.c)
target_compile_definitions(test_cuda_slices PRIVATE IN_SLICES_ON_GPU)
add_test(NAME test_cuda_slices COMMAND test_cuda_slices)
visatb_test_on_fibres(test_cuda_arguments test_cuda_arguments.c loss_call.c loss_reference.c)
add_test(NAME test_cuda_arguments COMMAND test_cuda_arguments)

# A cuBLAS on the memory of the host.
add_library(fake_cublas MODULE fake_cublas.c loss_reference.c)
target_include_directories(fake_cublas PRIVATE "${PROJECT_SOURCE_DIR}/include")
target_link_libraries(fake_cublas PRIVATE visatb_options m)
target_link_options(fake_cublas PRIVATE LINKER:-soname,libcublas.so.13)
foreach(name test_cuda_linear test_cuda_linear_calls)
  visatb_test_on_fibres(${name} ${name}.c
    cuda_linear_problem.c linear_problem.c loss_problem.c loss_reference.c cpu_paths.c)
  add_test(NAME ${name} COMMAND ${name})
  add_dependencies(${name} fake_cublas)
  set_property(TEST ${name} PROPERTY ENVIRONMENT "VISATB_CUBLAS=$<TARGET_FILE:fake_cublas>")
endforeach()
visatb_test_on_fibres(test_cublas test_cublas.c)
add_dependencies(test_cublas fake_cublas)
add_test(NAME test_cublas COMMAND test_cublas "$<TARGET_FILE:fake_cublas>")

# D without logits, and an NCCL whose ranks are threads.
visatb_test_on_fibres(test_denominator_on_gpu test_denominator.c)
add_test(NAME test_denominator_on_gpu COMMAND test_denominator_on_gpu cuda)
visatb_test_on_fibres(test_cuda_denominator test_cuda_denominator.c loss_call.c loss_reference.c)
add_test(NAME test_cuda_denominator COMMAND test_cuda_denominator)
# Under its own name in a folder of its own, where a loader that is told to look there finds it.
add_library(fake_nccl MODULE fake_nccl.c)
set_target_properties(fake_nccl PROPERTIES
  PREFIX "" OUTPUT_NAME libnccl SUFFIX .so.2 LIBRARY_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/fake_nccl")
target_link_libraries(fake_nccl PRIVATE visatb_options Threads::Threads)
target_compile_definitions(fake_nccl PRIVATE _XOPEN_SOURCE=700)
target_link_options(fake_nccl PRIVATE LINKER:-soname,libnccl.so.2)
# Another one, to tell which is taken.
add_library(fake_nccl_other MODULE fake_nccl.c)
target_link_libraries(fake_nccl_other PRIVATE visatb_options Threads::Threads)
target_compile_definitions(fake_nccl_other PRIVATE _XOPEN_SOURCE=700 FAKE_VERSION=29906)
visatb_test_on_fibres(test_nccl test_nccl.c ../fibres/in_child.c)
add_test(NAME test_nccl COMMAND test_nccl "$<TARGET_FILE:fake_nccl>" "$<TARGET_FILE:fake_nccl_other>")
set_property(TEST test_nccl PROPERTY ENVIRONMENT "LD_LIBRARY_PATH=$<TARGET_FILE_DIR:fake_nccl>")
visatb_test_on_fibres(test_sum_over_ranks test_sum_over_ranks.c)
add_test(NAME test_sum_over_ranks COMMAND test_sum_over_ranks)
set_property(TEST test_sum_over_ranks PROPERTY ENVIRONMENT "VISATB_NCCL=$<TARGET_FILE:fake_nccl>")
add_dependencies(test_nccl fake_nccl fake_nccl_other)
add_dependencies(test_sum_over_ranks fake_nccl)
# The object comes before that of the library.
visatb_test_on_fibres(test_without_nccl test_without_nccl.c "${PROJECT_SOURCE_DIR}/libvisatb/cuda/without_nccl.c")
add_test(NAME test_without_nccl COMMAND test_without_nccl)

# What goes to a GPU to be run under compute-sanitizer is run here too.
file(GLOB every_kernel CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tools/gpu_check/every_kernel/*.c")
list(FILTER every_kernel EXCLUDE REGEX memory_cuda)
add_executable(every_kernel_on_fibres ${every_kernel} loss_reference.c)
target_include_directories(every_kernel_on_fibres PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
target_link_libraries(every_kernel_on_fibres PRIVATE visatb_fibres visatb_options m)
target_compile_definitions(every_kernel_on_fibres PRIVATE _XOPEN_SOURCE=700 EVERY_KERNEL_ON_FIBRES)
add_dependencies(every_kernel_on_fibres fake_cublas)
add_test(NAME every_kernel_on_fibres COMMAND every_kernel_on_fibres --small)
set_property(TEST every_kernel_on_fibres PROPERTY ENVIRONMENT "VISATB_CUBLAS=$<TARGET_FILE:fake_cublas>")

# The linear form's tests once more, on a GPU and with cuBLAS.
if(VISATB_CUDA_ORIGIN)
  add_executable(test_cuda_linear_on_device test_cuda_linear.c
    cuda_linear_problem.c linear_problem.c loss_problem.c loss_reference.c cpu_paths.c device_memory_cuda.c)
  target_include_directories(test_cuda_linear_on_device PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}")
  target_include_directories(test_cuda_linear_on_device SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(test_cuda_linear_on_device PRIVATE
    visatb visatb_options PkgConfig::CMOCKA CUDA::cudart_static ${CMAKE_DL_LIBS} m)
  target_compile_definitions(test_cuda_linear_on_device PRIVATE _XOPEN_SOURCE=700)
  set_target_properties(test_cuda_linear_on_device PROPERTIES LINKER_LANGUAGE C)
  add_test(NAME test_cuda_linear_on_device COMMAND test_cuda_linear_on_device)
  # 77: there is no GPU.
  set_tests_properties(test_cuda_linear_on_device PROPERTIES SKIP_RETURN_CODE 77 LABELS gpu)
endif()

# The same as a shared library, for tests/python/test_pretended_gpu.py, which makes it.
add_library(visatb_pretended_gpu SHARED EXCLUDE_FROM_ALL $<TARGET_OBJECTS:visatb_fibres>)
target_link_libraries(visatb_pretended_gpu PRIVATE
  visatb_core visatb_fibres_harness visatb_options Threads::Threads ${CMAKE_DL_LIBS} m)
set_target_properties(visatb_pretended_gpu PROPERTIES LINKER_LANGUAGE CXX)
target_link_options(visatb_pretended_gpu PRIVATE
  "LINKER:--version-script=${PROJECT_SOURCE_DIR}/libvisatb/exports.map" LINKER:--no-undefined-version)
