//! Which calling convention a function's entry has.

use crate::arch::abi::Abi;
use crate::arch::scan::Scan;
use crate::image::Function;

/// The calling convention by how the function begins: registers for everything
/// written in Go (since 1.17), the stack for assembly and for wrappers that
/// assembly calls Go through, where R14 need not be g. `scan` tells more surely
/// where the function could be scanned.
pub fn abi_of(function: &Function<'_>, scan: Option<&Scan>) -> Abi {
    let asm = function.is_asm() && !is_register_assembly(&function.name());
    let loads_g = scan
        .and_then(|scan| scan.check)
        .is_some_and(|check| check.loads_g);
    if asm || loads_g || function.is_wrapper() && sets_up_registers(function, scan) {
        Abi::Abi0
    } else {
        Abi::Internal
    }
}

/// Assembly that takes its arguments in registers (`<ABIInternal>` in the
/// amd64 assembly below GOROOT/src, Go 1.19 to 1.27).
fn is_register_assembly(name: &str) -> bool {
    const RUNTIME: &[&str] = &[
        "cmpstring",
        "debugCallV2",
        "duffcopy",
        "duffzero",
        "getfp",
        "mapinitnoop",
        "mcall",
        "memclrNoHeapPointers",
        "memequal",
        "memequal_varlen",
        "memhash",
        "memhash32",
        "memhash64",
        "memmove",
        "publicationBarrier",
        "rt0_lib_go",
        "strhash",
        "switchToCrashStack0",
        "vgetrandom1",
    ];
    const FAMILIES: &[&str] = &["gcWriteBarrier", "panicBounds", "panicIndex", "panicSlice"];
    const OTHERS: &[&str] = &[
        "internal/bytealg.Compare",
        "internal/chacha8rand.block",
        "internal/runtime/maps.checkMasksAndShiftsAlignment",
        "internal/runtime/maps.memHash32AES",
        "internal/runtime/maps.memHash64AES",
        "internal/runtime/maps.memHashAES",
        "internal/runtime/syscall.Syscall6",
        "internal/runtime/syscall/linux.Syscall6",
        "runtime/internal/syscall.Syscall6",
        "time.now",
    ];
    match name.strip_prefix("runtime.") {
        Some(short) => {
            RUNTIME.contains(&short) || FAMILIES.iter().any(|family| short.starts_with(family))
        }
        None => OTHERS.contains(&name),
    }
}

/// A wrapper through which assembly calls Go: it makes X15 zero and loads g
/// before it calls (`cmd/compile/internal/amd64/ssa.go`: `getgFromTLS`,
/// `zeroX15`). Its opposite, through which Go calls assembly, does so after.
fn sets_up_registers(function: &Function<'_>, scan: Option<&Scan>) -> bool {
    let call = scan.and_then(|scan| scan.first_call);
    let before = call.map_or(function.size(), |at| at.wrapping_sub(function.entry().0));
    let code = function.code().unwrap_or_default();
    let head = usize::try_from(before).ok().and_then(|n| code.get(..n));
    let zero_x15: [u8; 4] = [0x45, 0x0f, 0x57, 0xff];
    head.is_some_and(|head| head.windows(zero_x15.len()).any(|w| w == zero_x15))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::scan::Disassembler;
    use crate::image::Image;
    use std::path::Path;
    use std::process::Command;

    /// The symbol table says `.abi0` where a name has both; it is the oracle.
    #[test]
    fn the_symbol_table_agrees() {
        let go = |args: &[&str]| {
            let out = Command::new("go").args(args).output();
            let out = out.expect("no `go` on PATH: install Go, e.g. apt-get install golang-go");
            assert!(out.status.success(), "go {args:?} fails");
            String::from_utf8(out.stdout).unwrap()
        };
        let path = format!("{}/bin/go", go(&["env", "GOROOT"]).trim());
        let symbols = go(&["tool", "nm", &path]);
        let image = Image::open(Path::new(&path)).unwrap();
        let disassembler = Disassembler::new().unwrap();
        let (mut stack, mut registers, mut wrong) = (0, 0, Vec::new());
        for line in symbols.lines() {
            let mut fields = line.split_whitespace();
            let at = fields
                .next()
                .and_then(|at| u64::from_str_radix(at, 16).ok());
            let (Some(at), Some(kind @ ("T" | "t"))) = (at, fields.next()) else {
                continue;
            };
            let name = fields.next().unwrap_or_default();
            let Some(function) = image.functions().find(crate::addr::ImageAddr(at)) else {
                continue;
            };
            let code = function.code().unwrap_or_default();
            let scan = disassembler.scan_function(code, at);
            let abi = abi_of(&function, Some(&scan));
            // The symbols of local assembly do not tell.
            let abi0 = name.strip_suffix(".abi0").is_some();
            let local = function.is_asm() && (kind == "t" || !name.contains('.'));
            if function.entry().0 != at || local && !abi0 {
                continue;
            }
            let expected = if abi0 {
                stack += 1;
                Abi::Abi0
            } else {
                registers += 1;
                Abi::Internal
            };
            if abi != expected {
                wrong.push(name);
            }
        }
        println!("{stack} ABI0, {registers} ABIInternal; otherwise: {wrong:?}");
        assert!(stack > 100 && registers > 5_000);
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
