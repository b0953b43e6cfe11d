# Runs a script (argument 1) in place of the vendor's shell and writes every call of a command that tclsh does not have
# to a file (argument 2): line, script, working folder, the call's words, each in base64. Argument 3 on: name value pairs
# of what commands return.
set recorder(self) [file normalize [info script]]
set recorder(script) [lindex $argv 0]
set recorder(file) [open [lindex $argv 1] w]
array set recorder_returns [lrange $argv 2 end]

proc recorder_encode {text} {
    return [binary encode base64 [encoding convertto utf-8 $text]]
}

proc unknown {args} {
    global recorder recorder_returns
    set line 0
    set script $recorder(script)
    # The innermost frame that lies in a file is the script's own.
    for {set level [info frame]} {$level > 0} {incr level -1} {
        set frame [info frame $level]
        if {[dict get $frame type] ne "source"} continue
        if {[file normalize [dict get $frame file]] eq $recorder(self)} continue
        set line [dict get $frame line]
        set script [dict get $frame file]
        break
    }
    set words {}
    foreach word [list $line $script [pwd] {*}$args] { lappend words [recorder_encode $word] }
    puts $recorder(file) [join $words "|"]
    flush $recorder(file)
    set name [lindex $args 0]
    return [expr {[info exists recorder_returns($name)] ? $recorder_returns($name) : ""}]
}

set argv0 $recorder(script)
set argv {}
set argc 0
source $recorder(script)
