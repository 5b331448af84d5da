<#
.SYNOPSIS
Installs sshshim for you alone, at %LOCALAPPDATA%\Programs\sshshim. It needs no administrator.

.DESCRIPTION
    .\install.ps1 [-Version VERSION] [-Uninstall]

Works in Windows PowerShell 5.1 and later. The variable SSHSHIM_RELEASES may name another place that
has releases as GitHub has them.
#>
[CmdletBinding()]
param(
    [ValidatePattern('^[0-9A-Za-z.-]*$')]
    [string] $Version = '',
    [switch] $Uninstall
)

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
# Windows PowerShell draws its progress so slowly that a download takes minutes.
$ProgressPreference = 'SilentlyContinue'

# A release puts its repository here.
$Repository = '@REPOSITORY@'

$Folder = Join-Path $env:LOCALAPPDATA 'Programs\sshshim'
$Program = Join-Path $Folder 'sshshim.exe'

function Get-Platform {
    # A 32-bit shell sees its own kind of processor first.
    $processor = $env:PROCESSOR_ARCHITEW6432
    if (-not $processor) { $processor = $env:PROCESSOR_ARCHITECTURE }
    switch ($processor) {
        'AMD64' { return 'windows-x86_64.zip' }
        'ARM64' { return 'windows-aarch64.zip' }
        default { throw "There is no sshshim for the processor $processor." }
    }
}

function Get-Releases {
    if ($env:SSHSHIM_RELEASES) { return $env:SSHSHIM_RELEASES }
    if ($Repository.StartsWith('@')) {
        throw 'This copy belongs to no release. Set SSHSHIM_RELEASES to where releases are.'
    }
    return "https://github.com/$Repository/releases"
}

function Save-File([string] $Url, [string] $File) {
    try {
        Invoke-WebRequest -Uri $Url -OutFile $File -UseBasicParsing
    } catch {
        throw "Cannot download ${Url}: $($_.Exception.Message)"
    }
}

# The line of SHA256SUMS whose file name matches.
function Find-Sum([string] $File, [string] $Pattern) {
    foreach ($line in Get-Content -LiteralPath $File) {
        if ($line -match "^([0-9a-f]{64})  ($Pattern)`$") {
            return @{ Sum = $Matches[1]; Name = $Matches[2] }
        }
    }
    return $null
}

function Get-PathOfUser {
    return @([Environment]::GetEnvironmentVariable('Path', 'User') -split ';' | Where-Object { $_ })
}

function Install-Program {
    $platform = Get-Platform
    $releases = Get-Releases
    [Net.ServicePointManager]::SecurityProtocol =
        [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12
    $work = Join-Path ([IO.Path]::GetTempPath()) ([Guid]::NewGuid().ToString())
    $new = Join-Path $Folder 'sshshim.new.exe'
    New-Item -ItemType Directory -Path $work | Out-Null
    try {
        $sums = Join-Path $work 'SHA256SUMS'
        $place = "$releases/latest/download"
        if ($Version) { $place = "$releases/download/$Version" }
        Save-File "$place/SHA256SUMS" $sums
        $found = Find-Sum $sums "sshshim-.*-$([Regex]::Escape($platform))"
        if (-not $found) { throw "The release has no archive for $platform." }
        $archive = Join-Path $work $found.Name
        $released = $found.Name.Substring(8, $found.Name.Length - 9 - $platform.Length)
        Save-File "$releases/download/$released/$($found.Name)" $archive
        $actual = (Get-FileHash -LiteralPath $archive -Algorithm SHA256).Hash.ToLowerInvariant()
        if ($actual -ne $found.Sum) {
            throw "$($found.Name) is damaged, or not what was released: its SHA-256 is $actual, " +
                "not $($found.Sum). Nothing was installed. Try again."
        }
        Expand-Archive -LiteralPath $archive -DestinationPath $work
        New-Item -ItemType Directory -Force -Path $Folder | Out-Null
        $unpacked = Join-Path $work ([IO.Path]::GetFileNameWithoutExtension($found.Name))
        Copy-Item -LiteralPath (Join-Path $unpacked 'sshshim.exe') -Destination $new
        $shown = & $new --version
        if ($LASTEXITCODE -ne 0) { throw 'The program does not run on this system.' }
        try {
            Move-Item -LiteralPath $new -Destination $Program -Force
        } catch {
            throw "Cannot replace ${Program}: $($_.Exception.Message) Stop sshshim first."
        }
        Write-Output "Installed $shown at $Program."
    } finally {
        Remove-Item -LiteralPath $work -Recurse -Force
        if (Test-Path -LiteralPath $new) { Remove-Item -LiteralPath $new -Force }
    }
    if ((Get-PathOfUser) -notcontains $Folder) {
        Write-Output 'That folder is not in your PATH. To add it, run this and open a new terminal:'
        Write-Output ("  [Environment]::SetEnvironmentVariable('Path', " +
            "[Environment]::GetEnvironmentVariable('Path', 'User') + ';$Folder', 'User')")
    }
}

function Uninstall-Program {
    if (-not (Test-Path -LiteralPath $Program)) { throw "There is no $Program." }
    Remove-Item -LiteralPath $Folder -Recurse -Force
    Write-Output ("Removed $Folder. The local port's host keys are left in " +
        (Join-Path $env:LOCALAPPDATA 'sshshim') + '.')
}

try {
    if ($Uninstall) { Uninstall-Program } else { Install-Program }
} catch {
    [Console]::Error.WriteLine("install: $($_.Exception.Message)")
    exit 1
}
