/* What cffi needs to know of the libffi that the Pyodide runtime exports (wasm32, Emscripten ABI). Nothing is linked. */
#ifndef EDGEVEC_WASM_FFI_H
#define EDGEVEC_WASM_FFI_H

#include <stddef.h>

#define FFI_CLOSURES 1
#define FFI_TRAMPOLINE_SIZE 4
#define FFI_TARGET_SPECIFIC_VARIADIC 1
#define FFI_TYPE_STRUCT 13

typedef unsigned long ffi_arg;
typedef signed long ffi_sarg;
typedef enum { FFI_OK, FFI_BAD_TYPEDEF, FFI_BAD_ABI, FFI_BAD_ARGTYPE } ffi_status;
typedef enum {
    FFI_FIRST_ABI,
    FFI_WASM32,
    FFI_WASM32_EMSCRIPTEN,
    FFI_LAST_ABI,
    FFI_DEFAULT_ABI = FFI_WASM32_EMSCRIPTEN
} ffi_abi;

typedef struct ffi_type_ {
    size_t size;
    unsigned short alignment, type;
    struct ffi_type_ **elements;
} ffi_type;

extern ffi_type ffi_type_void, ffi_type_pointer, ffi_type_float, ffi_type_double, ffi_type_longdouble;
extern ffi_type ffi_type_uint8, ffi_type_uint16, ffi_type_uint32, ffi_type_uint64;
extern ffi_type ffi_type_sint8, ffi_type_sint16, ffi_type_sint32, ffi_type_sint64;

typedef struct {
    ffi_abi abi;
    unsigned nargs;
    ffi_type **arg_types;
    ffi_type *rtype;
    unsigned bytes, flags, nfixedargs;
} ffi_cif;

typedef void ffi_closure_function(ffi_cif *cif, void *result, void **arguments, void *user);
typedef struct {
    void *function;
    ffi_cif *cif;
    ffi_closure_function *fun;
    void *user_data;
} __attribute__((aligned(8))) ffi_closure;

ffi_status ffi_prep_cif(ffi_cif *cif, ffi_abi abi, unsigned nargs, ffi_type *result, ffi_type **arguments);
ffi_status ffi_prep_cif_var(ffi_cif *cif, ffi_abi abi, unsigned fixed, unsigned total, ffi_type *result, ffi_type **arguments);
void ffi_call(ffi_cif *cif, void (*function)(void), void *result, void **arguments);
void *ffi_closure_alloc(size_t size, void **code);
void ffi_closure_free(void *closure);
/* Named by cffi in a branch that is never taken here. */
ffi_status ffi_prep_closure(ffi_closure *closure, ffi_cif *cif, ffi_closure_function *function, void *user);
ffi_status ffi_prep_closure_loc(ffi_closure *closure, ffi_cif *cif, ffi_closure_function *function, void *user, void *code);

#endif
